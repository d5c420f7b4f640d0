from __future__ import annotations

import gzip
import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest

from mercore import ngrams
from mercore.errors import CheckpointError, InputError, RunError
from mercore.ngrams import BackoffModel, build, read_arpa, read_sentences, score_text, write_arpa
from mercore.watch import Silent

Words = tuple[str, ...]
approx = partial(pytest.approx, abs=1e-6)

SMALL = """\
made by hand

\\data\\
ngram 1=5
ngram  2=3
ngram 3=1

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.5
-0.6\t</s>
-0.4\t好\t-0.25
-0.7 a -0.125

\\2-grams:
-0.2\t<s> 好
-0.3\t好 a\t-0.0625
-0.1\ta </s>

\\3-grams:
-0.05\t好 好 a

\\end\\
"""

# The output of KenLM's lmplz --discount_fallback -o 3 on two texts, as KenLM's repository keeps it
# in lm/common/test_data/toy{0,1}.arpa (generate.sh beside it). There <s> has 0, in SRILM's files
# and ours -99: nothing ever asks for it.
TOYS: dict[Words, str] = {
    ("a a b a", "b a a b"): """
        0 <s> -0.30103 | -0.90309 <unk> | -0.46943438 a -0.30103
        -0.5720968 </s> | -0.5720968 b -0.30103
        -0.37712017 <s> a -0.30103 | -0.37712017 a a -0.30103 | -0.2984526 b a -0.30103
        -0.58682007 a </s> | -0.5220179 b </s> | -0.41574955 <s> b -0.30103
        -0.58682007 a b -0.30103 | -0.14885087 <s> a a | -0.33741078 b a a
        -0.124077894 <s> b a | -0.2997394 a b a | -0.42082912 b a </s> | -0.397617 a b </s>
        -0.20102891 a a b""",
    ("a a b b b b b b b", "c"): """
        0 <s> -0.30103 | -1 <unk> | -0.6146491 a -0.30103 | -0.6146491 </s> | -0.7659168 c -0.30103
        -0.6146491 b -0.30103 | -0.4301247 <s> a -0.30103 | -0.4301247 a a -0.30103
        -0.20660876 c </s> | -0.5404639 b </s> | -0.4740302 <s> c -0.30103
        -0.4301247 a b -0.30103 | -0.3422159 b b -0.47712123 | -0.1638568 <s> a a
        -0.09113217 <s> c </s> | -0.7462621 b b </s> | -0.1638568 a a b
        -0.13823806 a b b | -0.13375957 b b b""",
}

# The letters of a sentence are its words: so little text has all counts of counts.
LETTERS = [
    list(sentence.lower().replace(" ", "_"))
    for sentence in (
        "The family of Dashwood had long been settled in Sussex",
        "Their estate was large and their residence was at Norland Park",
        "in the centre of their property where for many generations they had lived",
        "in so respectable a manner as to engage the general good opinion",
        "of their surrounding acquaintance",
    )
]


def test_probabilities_are_natural_logarithms_and_back_off(tmp_path: Path) -> None:
    model = small(tmp_path)
    assert model.order == 3
    value, state = model.score(model.start(), "好")
    assert value == pytest.approx(-0.2 * math.log(10))
    assert state == ("好",)  # no 3-gram begins with <s> 好
    assert scored(model, "好") == pytest.approx([-0.2])
    assert scored(model, "a") == pytest.approx([-0.5 - 0.7])
    assert scored(model, "好", "a", "a") == pytest.approx([-0.2, -0.3, -0.0625 - 0.125 - 0.7])
    assert scored(model, "new", "a") == pytest.approx([-0.5 - 1.0, -0.7])
    assert model.end(("a",)) == pytest.approx(-0.1 * math.log(10))
    assert model.end(()) == pytest.approx(-0.6 * math.log(10))


def test_a_model_whose_shorter_ngrams_are_pruned_is_read(tmp_path: Path) -> None:
    model = small(tmp_path)  # `好 好 a`, but not `好 好`
    assert model.score(("好", "好"), "a")[0] == pytest.approx(-0.05 * math.log(10))
    assert model.score(("好",), "好")[1] == ("好", "好")


def test_a_state_holds_only_the_words_that_matter(tmp_path: Path) -> None:
    model = small(tmp_path)
    assert model.start() == ("<s>",)
    assert model.score(("好", "a"), "new")[1] == ()
    assert model.score(("好",), "a")[1] == ("好", "a")
    assert model.score(("好", "a"), "a")[1] == ("a",)


def test_a_compressed_file_is_the_same_model(tmp_path: Path) -> None:
    zipped = tmp_path / "lm.arpa.gz"
    zipped.write_bytes(gzip.compress(SMALL.encode()))
    assert read_arpa(zipped) == small(tmp_path)


def test_a_model_without_unknown_words_gives_them_the_floor(tmp_path: Path) -> None:
    model = small(tmp_path, SMALL.replace("-1.0\t<unk>\n", "").replace("1=5", "1=4"))
    assert scored(model, "new")[0] == pytest.approx(ngrams.UNKNOWN_FLOOR - 0.5)
    model = small(tmp_path, SMALL.replace("<unk>", "<UNK>"))
    assert scored(model, "new")[0] == pytest.approx(-1.5)


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("\\data\\", "data", 23, "the file ends, expected \\data\\"),
        ("ngram 1=5\nngram  2=3\nngram 3=1\n", "", 5, "expected a line like 'ngram 1=200'"),
        ("ngram  2=3\n", "", 5, "'ngram 3=1', expected 'ngram 2=...'"),
        ("1=5", "1=6", 15, "5 1-grams, but 6 are announced in \\data\\"),
        ("1=5", "1=4", 13, "more 1-grams than the 4 announced in \\data\\"),
        ("\\2-grams:", "\\3-grams:", 15, "expected \\2-grams:"),
        ("\\end\\", "\\4-grams:", 23, "expected \\end\\ after the 3-grams"),
        ("\\end\\\n", "", 22, "the file ends, expected \\end\\"),
        ("-0.1\ta </s>", "-0.1\ta", 18, "2 fields, expected a number, 2 words"),
        ("-0.05\t好 好 a", "-0.05\t好 好 a -1", 21, "5 fields, expected a number, 3 words"),
        ("-0.1\ta", "x\ta", 18, "'x' is not a number"),
        ("-0.1\ta", "nan\ta", 18, "'nan' is not a number"),
        ("-0.1\ta", "0.1\ta", 18, "log10 probability 0.1 is above 0"),
        ("-0.1\ta", "-0.1\tb", 18, "the word 'b' is no 1-gram"),
        ("-0.1\ta </s>", "-0.3\t好 a", 18, "the n-gram '好 a' is there twice"),
    ],
)
def test_an_error_of_a_file_has_its_line(
    tmp_path: Path, old: str, new: str, line: int, reason: str
) -> None:
    assert old in SMALL
    with pytest.raises(CheckpointError) as caught:
        small(tmp_path, SMALL.replace(old, new))
    assert f"lm.arpa:{line}: " in str(caught.value)
    assert reason in str(caught.value)


def test_a_file_that_is_cut_off_binary_or_absent_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    for content, reason in (
        (SMALL.encode()[:120], "lm.arpa:13: '-' is not a number"),
        (gzip.compress(SMALL.encode())[:-20], "cannot read the language model .*lm.arpa: "),
        (b"\x1f\x8b\x00\x01", "cannot read the language model .*lm.arpa: "),
        (bytes(range(256)), r"the file ends, expected \\data\\; is this an ARPA file\?"),
        (SMALL.encode("gb18030"), r"lm.arpa:12: the word b'.*' is not UTF-8"),
        (SMALL.replace("</s>", "<e>").encode(), "lm.arpa: no </s> among the 1-grams"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=reason):
            read_arpa(path)
    with pytest.raises(CheckpointError, match=r"nope\.arpa: No such file"):
        read_arpa(tmp_path / "nope.arpa")


@pytest.mark.parametrize("text", TOYS)
def test_the_model_of_a_text_is_the_one_of_kenlm(text: Words, tmp_path: Path) -> None:
    trained = build([line.split() for line in text], order=3)
    assert trained.discounts == ((0.5, 1.0, 1.5),) * 3
    assert "to estimate the discounts of the 1-grams, 2-grams, 3-grams" in trained.warnings[0]
    model = read_arpa(write_arpa(trained, tmp_path / "lm.arpa"))
    assert equal(model, figures(TOYS[text]))


def test_the_whole_model_of_a_longer_text_is_the_one_of_kenlm(tmp_path: Path) -> None:
    trained = build(LETTERS, order=3)
    # As lmplz reports them; tests/data/NOTICE.md tells how it was run.
    one, two, three = trained.discounts
    assert one == pytest.approx((0.333333, 1.5, 0.333333), rel=1e-5)
    assert two == pytest.approx((0.572327, 1.49501, 2.08428), rel=1e-5)
    assert three == pytest.approx((0.735537, 1.58626, 1.52893), rel=1e-5)
    model = read_arpa(write_arpa(trained, tmp_path / "lm.arpa"))
    kenlm = read_arpa(Path(__file__).parent / "data/letters.arpa")
    assert len(model.probabilities) == 392
    assert equal(model, kenlm)


class Formula:
    """Chen and Goodman's equations, word for word and in fractions, from a list of sentences."""

    def __init__(self, sentences: Sequence[Sequence[str]], order: int) -> None:
        marked = [("<s>", *sentence, "</s>") for sentence in sentences]
        raw = {
            n: Counter(s[i : i + n] for s in marked for i in range(len(s) - n + 1))
            for n in range(1, order + 1)
        }
        del raw[1]["<s>",]
        self.words = sorted({word for (word,) in raw[1]} | {"<unk>"})
        self.counts: dict[Words, dict[Words, int]] = defaultdict(dict)
        self.discounts = {}
        for n in range(1, order + 1):
            before = defaultdict(set)
            for longer in raw.get(n + 1, ()):
                before[longer[1:]].add(longer[0])
            for ngram, count in raw[n].items():
                kept = n == order or ngram[0] == "<s>"
                self.counts[ngram[:-1]][ngram] = count if kept else len(before[ngram])
            self.discounts[n] = self._discounts(n)

    def _discounts(self, n: int) -> list[Fraction]:
        """Equation 26; of n-grams that are never there, 0."""
        of = Counter(
            count for found in self.counts.values() for ngram, count in found.items()
            if len(ngram) == n
        )  # fmt: skip
        y = Fraction(of[1], of[1] + 2 * of[2])
        return [Fraction(0), *(k - (k + 1) * y * Fraction(of[k + 1], of[k]) for k in (1, 2, 3))]

    def probability(self, word: str, context: Words) -> Fraction:
        n = len(context) + 1
        below = self.probability(word, context[1:]) if context else Fraction(1, len(self.words))
        if context not in self.counts:
            return below
        taken, following = self.discounts[n], self.counts[context]
        count = following.get((*context, word), 0)
        gamma = sum(taken[min(c, 3)] for c in following.values())
        return (count - taken[min(count, 3)] + gamma * below) / sum(following.values())


@pytest.mark.parametrize(("order", "text"), [(1, LETTERS[:2]), (2, LETTERS), (3, LETTERS)])
def test_the_probabilities_are_those_of_the_formulas(
    order: int, text: list[list[str]], tmp_path: Path
) -> None:
    formula = Formula(text, order)
    trained = build(text, order=order)
    assert not trained.warnings
    for n, found in enumerate(trained.discounts, start=1):
        assert found == pytest.approx([float(value) for value in formula.discounts[n][1:]])
    model = read_arpa(write_arpa(trained, tmp_path / "lm.arpa"))
    known = [word for word in formula.words if word != "</s>"]
    unseen = [(), *((word,) for word in known), *itertools.product("qe_", repeat=2)]
    for context in {*formula.counts, *(found for found in unseen if len(found) < order)}:
        for word in formula.words:
            expected = math.log(formula.probability(word, context))
            assert model.score(context, word)[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("prune", [0, 1, 3])
def test_the_probabilities_after_each_context_sum_to_one(prune: int, tmp_path: Path) -> None:
    trained = build(LETTERS, order=4, prune=prune)
    model = read_arpa(write_arpa(trained, tmp_path / "lm.arpa"))
    words = [word for word in trained.words if word != "<s>"]
    seen = sorted(model.backoffs)
    assert len(seen) > 10
    for context in [(), ("<unk>",), ("q", "q"), *seen]:
        total = sum(math.exp(model.score(context, word)[0]) for word in words)
        assert total == pytest.approx(1, abs=1e-5), context


def test_pruning_leaves_out_what_is_rare(tmp_path: Path) -> None:
    counts = Counter((*pair,) for s in LETTERS for pair in itertools.pairwise(["<s>", *s, "</s>"]))
    model = read_arpa(write_arpa(build(LETTERS, order=2, prune=2), tmp_path / "lm.arpa"))
    kept = {ngram for ngram in model.probabilities if len(ngram) == 2}
    assert kept == {pair for pair, count in counts.items() if count > 2}
    assert {ngram[0] for ngram in model.probabilities} >= {"q", "<unk>"}


def test_with_a_vocabulary_all_its_words_and_no_others_are_known(tmp_path: Path) -> None:
    vocabulary = [*"abcdefghijklmnoprstuvwxyz_", "好"]
    trained = build(LETTERS, order=3, vocabulary=vocabulary)
    assert trained.unknown == sum(sentence.count("q") for sentence in LETTERS) > 0
    model = read_arpa(write_arpa(trained, tmp_path / "lm.arpa"))
    assert "好" in model
    assert "q" not in model
    assert model.score((), "q")[0] > model.score((), "好")[0] > math.log(1e-3)
    total = sum(math.exp(model.score(("<unk>",), word)[0]) for word in trained.words[2:])
    assert total + math.exp(model.score(("<unk>",), "<unk>")[0]) == pytest.approx(1, abs=1e-5)


def test_kaldilm_takes_the_file_for_the_same_model(tmp_path: Path) -> None:
    kaldilm = pytest.importorskip("kaldilm")
    path = write_arpa(build(LETTERS, order=3), tmp_path / "lm.arpa")
    symbols = tmp_path / "words.txt"
    graph = kaldilm.arpa2fst(
        input_arpa=str(path), disambig_symbol="#0", write_symbol_table=str(symbols)
    )
    ids = dict(line.split() for line in symbols.read_text().splitlines())
    arcs: dict[str, list[tuple[str, str, float]]] = defaultdict(list)
    final: dict[str, float] = {}
    for line in graph.splitlines():
        fields = line.split()
        if 1 <= len(fields) <= 2:
            final[fields[0]] = float(fields[1]) if len(fields) == 2 else 0.0
        elif fields:
            source, to, label, _, *weight = fields
            arcs[source].append((to, label, float(weight[0]) if weight else 0.0))
    model = read_arpa(path)
    for words in (LETTERS[0], list("the_q"), list("sussex_queen"), []):
        expected = score_text(model, [words]).log_probability
        start = graph.split()[0]
        costs = closed({start: 0.0}, arcs, ids["#0"])
        for word in words:
            step: dict[str, float] = {}
            for place, cost in costs.items():
                for to, label, weight in arcs[place]:
                    if label == ids[word]:
                        step[to] = min(cost + weight, step.get(to, math.inf))
            costs = closed(step, arcs, ids["#0"])
        cost = min(cost + final[place] for place, cost in costs.items() if place in final)
        assert cost == pytest.approx(-expected, abs=1e-3)


def test_a_model_is_written_whole_and_compressed_alike(tmp_path: Path) -> None:
    trained = build(LETTERS)
    plain = write_arpa(trained, tmp_path / "new" / "lm.arpa")
    zipped = write_arpa(trained, tmp_path / "lm.arpa.gz")
    assert gzip.decompress(zipped.read_bytes()) == plain.read_bytes()
    assert write_arpa(build(LETTERS), tmp_path / "b.gz").read_bytes() == zipped.read_bytes()
    (tmp_path / "taken").mkdir()
    with pytest.raises(RunError, match=r"cannot write .*taken"):
        write_arpa(trained, tmp_path / "taken")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "b.gz",
        "lm.arpa.gz",
        "new",
        "taken",
    ]


def test_the_order_is_that_of_the_longest_sentence(tmp_path: Path) -> None:
    trained = build([["a"], ["b"]], order=5)
    assert len(trained.levels) == 3
    assert trained.warnings[-1] == "there are no 4-grams to keep; the order is one less"
    assert read_arpa(write_arpa(trained, tmp_path / "lm.arpa")).order == 3


def test_no_text_and_the_marks_of_the_model_are_refused() -> None:
    with pytest.raises(InputError, match="the text is empty"):
        build([])
    with pytest.raises(InputError, match="a sentence has <s> or </s> in it"):
        build([["a", "</s>"]])
    for word in ("", "a b", "a\u3000"):
        with pytest.raises(InputError, match="is no word of a language model"):
            build([["a", word]])


@pytest.mark.parametrize(
    ("line", "units"),
    [
        ("你好，世界！", ["你", "好", "世", "界"]),
        ("我用iPhone 15拍照。", ["我", "用", "iphone", "15", "拍", "照"]),
        ("Don’t say \"O'Neill's\" - ok_then", ["don't", "say", "o'neill's", "ok", "then"]),
        ("ＡＢＣ　１２３ ｶﾅ", ["abc", "123", "カ", "ナ"]),
        ("𠮷野家 café naïve", ["𠮷", "野", "家", "café", "naïve"]),
        ("……！？ \t", []),
    ],
)
def test_characters_are_cut_as_a_chinese_recogniser_writes(line: str, units: list[str]) -> None:
    assert ngrams.cut(line, "characters") == units


def test_words_are_what_is_between_spaces() -> None:
    assert ngrams.cut(" 你好 , World\t! \n", "words") == ["你好", ",", "World", "!"]


def test_a_corpus_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_bytes(b"\xef\xbb\xbfa b\r\n\n   \nc\n")
    assert list(read_sentences(str(path), "words")) == [["a", "b"], ["c"]]
    path.write_bytes(gzip.compress(b"a b\nc"))
    assert list(read_sentences(str(path), "words")) == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("content", "units", "reason"),
    [
        (b"ok\n\xff\xfe\n", "characters", r"corpus.txt:2: not UTF-8: invalid start byte"),
        (b"\nok </s>\n", "words", "corpus.txt:2: <s> and </s> are marks of the model itself"),
        (b"a\na bb\n", "tokens", "corpus.txt:2: 'bb' is not in the list of tokens"),
        (gzip.compress(b"a b" * 99, mtime=0)[:-9], "words", "cannot read the text .*corpus.txt: "),
    ],
)
def test_an_error_of_a_corpus_has_its_line(
    content: bytes, units: ngrams.Units, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        list(read_sentences(str(path), units, ["a"]))
    with pytest.raises(InputError, match=r"cannot read the text .*: Is a directory"):
        list(read_sentences(str(tmp_path)))


def test_tokens_are_read_without_the_marks(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps(["<blank>", "<s>", "</s>", "好", "<unk>", " ", ""]))
    assert ngrams.read_tokens(path) == ["<blank>", "好"]
    for content in ('{"a": 1}', "[1]", '["<s>"]', "", "\x00"):
        path.write_text(content)
        with pytest.raises(InputError, match=r"tokens\.json"):
            ngrams.read_tokens(path)


class Recorder(Silent):
    def __init__(self) -> None:
        self.total: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.calls = 0

    def start(self, name: str, total: int) -> None:
        self.total[name] += total

    def advance(self, name: str, done: int, failed: int) -> None:
        self.done[name] += done
        self.calls += 1


def test_a_watch_is_told_how_much_is_read_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("a b c\n" * 12_345)
    watch = Recorder()
    build(read_sentences(str(path), watch=watch), order=4, watch=watch)
    assert watch.total == {str(path): 75, "n-grams": 4} == watch.done
    assert watch.calls == 3 + 4


def test_a_text_is_scored_with_and_without_unknown_words(tmp_path: Path) -> None:
    found = score_text(small(tmp_path), [["好", "new"], ["a"]])
    logs = [-0.2, -0.25 - 1.0, -0.6, -0.5 - 0.7, -0.1]
    assert (found.sentences, found.units, found.unknown) == (2, 3, 1)
    assert found.log_probability == pytest.approx(sum(logs) * math.log(10))
    assert found.perplexity == pytest.approx(10 ** (-sum(logs) / 5))
    assert found.known_perplexity == pytest.approx(10 ** (-(sum(logs) + 1.25) / 4))
    assert score_text(small(tmp_path), [["<unk>"]]).unknown == 1
    with pytest.raises(InputError, match="the text is empty"):
        score_text(small(tmp_path), [])


def small(folder: Path, content: str = SMALL) -> BackoffModel:
    path = folder / "lm.arpa"
    path.write_text(content, encoding="utf-8")
    return read_arpa(path)


def scored(model: BackoffModel, *words: str) -> list[float]:
    """Return the log10 probabilities of the words of a sentence."""
    state, found = model.start(), []
    for word in words:
        value, state = model.score(state, word)
        found.append(value / math.log(10))
    return found


def figures(listed: str) -> BackoffModel:
    """Return the model of these n-grams, each with its log10 probability and weight."""
    probabilities, backoffs = {}, {}
    for entry in listed.replace("\n", "|").split("|"):
        if fields := entry.split():
            weight = float(fields.pop()) if fields[-1].startswith("-") else 0.0
            probabilities[tuple(fields[1:])] = float(fields[0]) * math.log(10)
            backoffs[tuple(fields[1:])] = weight * math.log(10)
    return BackoffModel(max(map(len, probabilities)), probabilities, backoffs)


def equal(ours: BackoffModel, theirs: BackoffModel) -> bool:
    """Return whether both have the same n-grams and weights; <s> itself is never asked for."""
    start = ("<s>",)
    weights = {ngram: ours.backoffs.get(ngram, 0.0) for ngram in theirs.backoffs}
    return (
        ours.order == theirs.order
        and {**ours.probabilities, start: 0} == approx({**theirs.probabilities, start: 0})
        and weights == approx(theirs.backoffs)
        and {ngram for ngram, weight in ours.backoffs.items() if weight} <= set(weights)
    )


def closed(
    costs: dict[str, float], arcs: dict[str, list[tuple[str, str, float]]], backoff: str
) -> dict[str, float]:
    """Return the costs of all states that can be reached by backing off."""
    found, todo = dict(costs), list(costs)
    while todo:
        place = todo.pop()
        for to, label, weight in arcs[place]:
            if label in (backoff, "0") and found[place] + weight < found.get(to, math.inf):
                found[to] = found[place] + weight
                todo.append(to)
    return found
