"""Decoding: greedy, beam and WFST against brute force, with language models of all formats."""

from __future__ import annotations

import gzip
import importlib.util
import itertools
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from mercore.errors import CheckpointError, InputError, RunError
from mercore.ngrams import build, read_arpa, write_arpa
from mercore_paraformer._decoder import decoder_of
from mercore_paraformer._spelling import Spelling
from mercore_paraformer.decoding import Decoding
from mercore_paraformer.hypotheses import Hypothesis

Scores = NDArray[np.float32]

TOKENS = ("<blank>", "<s>", "</s>", "天", "气", "好", "he@@", "llo", "<unk>")
SPECIAL = (0, 1, 2)
CHARACTERS = "天气好"
DATA = Path(__file__).parent / "data"
KALDI = ("kaldifst", "kaldi_decoder", "kaldilm")

with_wfst = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in KALDI),
    reason="needs mercore-paraformer[wfst]",
)
both = pytest.mark.parametrize("decode", ["beam", pytest.param("wfst", marks=with_wfst)])


def arpa(folder: Path, words: Sequence[str] = tuple(CHARACTERS), seed: int = 0) -> Path:
    """Write a 3-gram model of random sentences over `words`."""
    chance = random.Random(seed)
    text = [chance.choices(words, k=chance.randint(1, 6)) for _ in range(60)]
    return write_arpa(build(text, order=3), folder / f"lm{seed}.arpa")


def random_scores(seed: int, positions: int, tokens: int = len(TOKENS)) -> Scores:
    chance = np.random.default_rng(seed)
    return np.log(chance.dirichlet(np.full(tokens, 0.5), positions) + 1e-6).astype(np.float32)


def scores_of(*rows: dict[str, float]) -> Scores:
    """Return log-probabilities: those given, a row each, and little for the other tokens."""
    found = np.full((len(rows), len(TOKENS)), 1e-4, np.float32)
    for row, given in zip(found, rows, strict=True):
        for token, probability in given.items():
            row[TOKENS.index(token)] = probability
    return np.log(found)


def brute_force(logp: Scores, options: Decoding, tokens: Sequence[str]) -> list[Hypothesis]:
    """Return every reading, the best first, by trying all that each position may say."""
    model = read_arpa(Path(options.lm or ""))
    spelling = Spelling(tokens, model)
    said = [place for place in range(len(tokens)) if place not in SPECIAL]
    best: dict[tuple[int, ...], float] = {}
    for choice in itertools.product([None, *said], repeat=len(logp) - 1):
        acoustic = sum(
            float(row[list(SPECIAL)].max()) if place is None else float(row[place])
            for row, place in zip(logp, choice, strict=False)
        )
        reading = tuple(place for place in choice if place is not None)
        best[reading] = max(best.get(reading, -math.inf), acoustic)
    found = []
    for reading, acoustic in best.items():
        pending = ""
        words: list[str] = []
        for place in reading:
            whole, pending = spelling.after(pending, place)
            words += whole
        state, language = model.start(), 0.0
        for word in [*words, *([pending] if pending else [])]:
            value, state = model.score(state, word)
            language += value
        language += model.end(state)
        bonus = options.length_bonus * len(reading)
        score = acoustic + options.lm_weight * language + bonus
        found.append(Hypothesis(reading, score, acoustic, language))
    return sorted(found, key=lambda one: -one.score)


def assert_same(found: Hypothesis, expected: Hypothesis) -> None:
    assert found.tokens == expected.tokens
    assert found.score == pytest.approx(expected.score, abs=1e-4)
    assert found.acoustic == pytest.approx(expected.acoustic, abs=1e-4)
    assert found.language == pytest.approx(expected.language, abs=1e-4)


def text(hypothesis: Hypothesis) -> str:
    return "".join(TOKENS[place] for place in hypothesis.tokens)


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_what_brute_force_finds(tmp_path: Path, seed: int) -> None:
    lm = arpa(tmp_path, [*CHARACTERS, "hello"], seed=seed)
    options = Decoding(
        decode="beam", lm=str(lm), lm_weight=0.7, length_bonus=0.3, beam=10_000, nbest=20
    )
    logp = random_scores(seed, positions=5)
    found = decoder_of(options, TOKENS)(logp)
    expected = brute_force(logp, options, TOKENS)
    assert len(found) == 20
    for one, other in zip(found, expected, strict=False):
        assert one.score == pytest.approx(other.score, abs=1e-4)
    assert_same(found[0], expected[0])


@pytest.mark.parametrize("seed", range(5))
def test_the_best_is_the_same_where_equal_states_are_one(tmp_path: Path, seed: int) -> None:
    options = Decoding(decode="beam", lm=str(arpa(tmp_path, seed=seed)), beam=100)
    logp = random_scores(seed, positions=5)
    (found,) = decoder_of(options, TOKENS)(logp)
    assert_same(found, brute_force(logp, options, TOKENS)[0])


@with_wfst
@pytest.mark.parametrize("seed", range(5))
def test_the_graph_finds_what_brute_force_and_the_beam_find(tmp_path: Path, seed: int) -> None:
    given = {"lm": str(arpa(tmp_path, seed=seed)), "lm_weight": 0.6, "beam": 100}
    given["length_bonus"] = 0.2 * seed
    tokens = ("<blank>", "<s>", "</s>", *CHARACTERS, "甲", "乙", "<unk>")
    graph = Decoding.model_validate({"decode": "wfst", **given})
    logp = random_scores(seed, positions=5)
    (found,) = decoder_of(graph, tokens)(logp)
    assert_same(found, brute_force(logp, graph, tokens)[0])
    (beam,) = decoder_of(Decoding.model_validate({"decode": "beam", **given}), tokens)(logp)
    assert_same(found, beam)


@both
def test_a_language_model_turns_a_wrong_sentence_right(tmp_path: Path, decode: str) -> None:
    lm = write_arpa(build([list("天气好")] * 20, order=3), tmp_path / "lm.arpa")
    options = Decoding.model_validate({"decode": decode, "lm": str(lm)})
    logp = scores_of({"天": 0.9}, {"好": 0.5, "气": 0.45}, {"好": 0.6, "天": 0.3}, {"</s>": 0.99})
    assert [text(one) for one in decoder_of(Decoding(), TOKENS)(logp)] == ["天好好"]
    assert [text(one) for one in decoder_of(options, TOKENS)(logp)] == ["天气好"]


@both
def test_the_last_position_is_dropped_and_the_model_scores_the_end(
    tmp_path: Path, decode: str
) -> None:
    lm = arpa(tmp_path)
    options = Decoding.model_validate({"decode": decode, "lm": str(lm), "lm_weight": 0.01})
    logp = scores_of({"天": 0.9}, {"气": 0.9}, {"好": 0.9})
    (found,) = decoder_of(options, TOKENS)(logp)
    model = read_arpa(lm)
    first, state = model.score(model.start(), "天")
    second, state = model.score(state, "气")
    assert text(found) == "天气"
    assert found.language == pytest.approx(first + second + model.end(state), abs=1e-4)
    assert [text(one) for one in decoder_of(Decoding(), TOKENS)(logp)] == ["天气好"]


@both
def test_the_end_alone_says_nothing(tmp_path: Path, decode: str) -> None:
    lm = arpa(tmp_path)
    options = Decoding.model_validate({"decode": decode, "lm": str(lm)})
    (found,) = decoder_of(options, TOKENS)(scores_of({"好": 0.9}))
    model = read_arpa(lm)
    assert (found.tokens, found.acoustic) == ((), 0.0)
    assert found.language == pytest.approx(model.end(model.start()), abs=1e-4)


def test_special_tokens_are_never_said(tmp_path: Path) -> None:
    logp = scores_of({"<blank>": 0.99}, {"<s>": 0.99}, {"</s>": 0.99}, {"</s>": 0.99})
    found = decoder_of(Decoding(decode="beam", lm=str(arpa(tmp_path)), nbest=5), TOKENS)(logp)
    assert found[0].tokens == ()
    assert not {place for one in found for place in one.tokens} & set(SPECIAL)
    assert decoder_of(Decoding(), TOKENS)(logp)[0].tokens == ()


@both
def test_a_length_bonus_makes_sentences_longer(tmp_path: Path, decode: str) -> None:
    given = {"decode": decode, "lm": str(arpa(tmp_path))}
    logp = scores_of({"天": 0.9}, {"<blank>": 0.6, "气": 0.3}, {"</s>": 0.9})
    (short,) = decoder_of(Decoding.model_validate(given), TOKENS)(logp)
    (long,) = decoder_of(Decoding.model_validate({**given, "length_bonus": 2.0}), TOKENS)(logp)
    assert (text(short), text(long)) == ("天", "天气")
    assert long.score == pytest.approx(long.acoustic + 0.3 * long.language + 2.0 * 2, abs=1e-4)


def test_readings_come_best_first_and_differ() -> None:
    options = Decoding(decode="beam", beam=8, nbest=6)
    found = decoder_of(options, TOKENS)(random_scores(3, positions=7))
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
    assert len({one.tokens for one in found}) == 6
    assert all(one.score == pytest.approx(one.acoustic) for one in found)


def test_pieces_are_scored_as_the_word_they_make(tmp_path: Path) -> None:
    lm = write_arpa(build([["hello", "天"], ["天", "hello"]] * 5, order=2), tmp_path / "lm.arpa")
    logp = scores_of({"he@@": 0.9}, {"llo": 0.9}, {"天": 0.9}, {"</s>": 0.9})
    (found,) = decoder_of(Decoding(decode="beam", lm=str(lm)), TOKENS)(logp)
    model = read_arpa(lm)
    first, state = model.score(model.start(), "hello")
    second, state = model.score(state, "天")
    assert [TOKENS[place] for place in found.tokens] == ["he@@", "llo", "天"]
    assert found.language == pytest.approx(first + second + model.end(state))


def test_pieces_are_words_where_the_model_knows_pieces(tmp_path: Path) -> None:
    model = read_arpa(write_arpa(build([["he@@", "llo", "天"]], order=2), tmp_path / "lm.arpa"))
    spelling = Spelling(TOKENS, model)
    assert spelling.after("", TOKENS.index("he@@")) == (("he@@",), "")
    assert spelling.after("", TOKENS.index("llo")) == (("llo",), "")


def test_a_word_that_is_not_continued_is_a_word_of_its_own() -> None:
    spelling = Spelling(TOKENS, ())
    assert spelling.after("", TOKENS.index("he@@")) == ((), "he")
    assert spelling.after("he", TOKENS.index("he@@")) == ((), "hehe")
    assert spelling.after("he", TOKENS.index("llo")) == (("hello",), "")
    assert spelling.after("he", TOKENS.index("天")) == (("he", "天"), "")


@both
def test_a_compressed_model_is_the_same(tmp_path: Path, decode: str) -> None:
    plain = arpa(tmp_path)
    packed = tmp_path / "lm.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes().replace(b"<unk>", b"<UNK>")))
    logp = random_scores(1, positions=6)
    one, other = (
        decoder_of(Decoding.model_validate({"decode": decode, "lm": str(lm)}), TOKENS)(logp)
        for lm in (plain, packed)
    )
    assert one == other


def test_kenlm_is_the_arpa_file_it_was_made_from() -> None:
    """Skipped where kenlm is not installed; the NOTICE beside the files says how to make them."""
    pytest.importorskip("kenlm")
    plain, binary = DATA / "tiny.arpa", DATA / "tiny.kenlm"
    for seed in range(3):
        logp = random_scores(seed, positions=6)
        one, other = (
            decoder_of(Decoding(decode="beam", lm=str(lm), nbest=5), TOKENS)(logp)
            for lm in (plain, binary)
        )
        for found, expected in zip(one, other, strict=True):
            assert_same(found, expected)


def test_a_cut_file_of_kenlm_says_so(tmp_path: Path) -> None:
    pytest.importorskip("kenlm")
    file = tmp_path / "lm.kenlm"
    file.write_bytes((DATA / "tiny.kenlm").read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot read the language model"):
        decoder_of(Decoding(decode="beam", lm=str(file)), TOKENS)


def compiled(lm: Path, folder: Path) -> Path:
    """Write G.fst of the ARPA file by kaldilm, its words in another order than the tokens."""
    import kaldilm

    words = ["<eps>", "#0", "<unk>", "<s>", "</s>", *reversed(CHARACTERS)]
    lines = (f"{word} {label}\n" for label, word in enumerate(words))
    (folder / "words.txt").write_text("".join(lines), encoding="utf-8")
    kaldilm.arpa2fst(
        str(lm),
        str(folder / "G.fst"),
        disambig_symbol="#0",
        read_symbol_table=str(folder / "words.txt"),
    )
    return folder / "G.fst"


@with_wfst
@pytest.mark.parametrize("seed", range(3))
def test_a_compiled_graph_is_like_the_arpa_file(tmp_path: Path, seed: int) -> None:
    lm = arpa(tmp_path, seed=seed)
    graph = compiled(lm, tmp_path)
    logp = random_scores(seed, positions=6)
    (one,) = decoder_of(Decoding(decode="wfst", lm=str(graph)), TOKENS)(logp)
    (other,) = decoder_of(Decoding(decode="wfst", lm=str(lm)), TOKENS)(logp)
    assert_same(one, other)


@with_wfst
def test_a_graph_of_tokens_keeps_repeated_characters(tmp_path: Path) -> None:
    """T has loops on tokens: the words of the best path say a repeated character once."""
    import kaldifst

    graph = kaldifst.StdVectorFst()
    start, loop = graph.add_state(), graph.add_state()
    graph.start = start
    label = TOKENS.index("天") + 1
    graph.add_arc(start, kaldifst.StdArc(label, 1, 0.5, loop))
    graph.add_arc(loop, kaldifst.StdArc(label, 0, 0.0, loop))
    graph.set_final(loop, 0.25)
    graph.write(str(tmp_path / "TLG.fst"))
    options = Decoding(decode="wfst", lm=str(tmp_path / "TLG.fst"))
    decode = decoder_of(options, TOKENS)
    (found,) = decode(scores_of({"天": 0.9}, {"天": 0.9}, {"</s>": 0.9}))
    assert text(found) == "天天"
    assert found.language == pytest.approx(-0.75)
    with pytest.raises(InputError, match="no path of 0 tokens"):
        decode(scores_of({"</s>": 0.9}))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lm": "lm.arpa"}, "lm does not count for decode: greedy"),
        ({"length_bonus": 0.1}, "length_bonus does not count for decode: greedy"),
        ({"nbest": 2}, "nbest: 2 needs decode: beam; greedy finds one"),
        ({"decode": "wfst"}, "decode: wfst needs a language model"),
        ({"decode": "wfst", "lm": "lm.arpa", "nbest": 2}, "wfst finds one"),
        ({"decode": "beam", "beam": 3, "nbest": 4}, "nbest: 4 is more than beam: 3"),
        ({"decode": "beam", "lm": "G.fst"}, "is a compiled graph, for decode: wfst"),
        ({"decode": "beam", "lm": "lm.arpa", "lm_weight": 0}, "greater than 0"),
    ],
)
def test_options_that_do_not_fit_are_mistakes(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Decoding.model_validate(given)


def test_another_model_is_another_identity(tmp_path: Path) -> None:
    file = arpa(tmp_path)
    options = Decoding(decode="beam", lm=str(file))
    before = options.lm_identity()
    moved = file.rename(tmp_path / "moved.arpa")
    assert Decoding(decode="beam", lm=str(moved)).lm_identity() == before
    moved.write_text(moved.read_text(encoding="utf-8").replace("-99", "-98"), encoding="utf-8")
    assert Decoding(decode="beam", lm=str(moved)).lm_identity() != before
    assert Decoding().lm_identity() == {}
    with pytest.raises(CheckpointError, match="lm: there is no file"):
        options.lm_identity()


def test_the_symbols_of_a_graph_are_part_of_its_identity(tmp_path: Path) -> None:
    (tmp_path / "G.fst").write_bytes(b"a graph")
    options = Decoding(decode="wfst", lm=str(tmp_path / "G.fst"))
    found = {str(options.lm_identity())}
    for words in ("<eps> 0\n天 1\n", "<eps> 0\n好 1\n"):
        (tmp_path / "words.txt").write_text(words, encoding="utf-8")
        found.add(str(options.lm_identity()))
    assert len(found) == 3


def test_bad_files_of_a_beam_say_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "lm"
    options = Decoding(decode="beam", lm=str(file))
    with pytest.raises(CheckpointError, match=r"cannot read the language model .*lm: No such file"):
        decoder_of(options, TOKENS)
    file.write_text("no model\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="is this an ARPA file"):
        decoder_of(options, TOKENS)
    file.write_bytes(b"\xd6\xfd\xb2\x7e and so on")
    with pytest.raises(CheckpointError, match="is a compiled graph; use decode: wfst"):
        decoder_of(options, TOKENS)


@with_wfst
def test_bad_files_of_a_graph_say_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "G.fst"
    options = Decoding(decode="wfst", lm=str(file))
    file.write_bytes(b"\xd6\xfd\xb2\x7e and so on")
    with pytest.raises(CheckpointError, match="is no OpenFst vector graph"):
        decoder_of(options, TOKENS)
    file.write_bytes(b"mmap lm http://kheafield.com/code format version 5")
    with pytest.raises(CheckpointError, match="cannot read KenLM's binary format"):
        decoder_of(options, TOKENS)
    compiled(arpa(tmp_path), tmp_path)
    for words, message in {
        "<eps> 0\n天\n": r"words.txt:2: '天', expected a word and its label",
        "<eps> 0\n今天 1\n": "none of its words is a token",
    }.items():
        (tmp_path / "words.txt").write_text(words, encoding="utf-8")
        with pytest.raises(CheckpointError, match=message):
            decoder_of(options, TOKENS)
    (tmp_path / "words.txt").unlink()
    with pytest.raises(CheckpointError, match=r"cannot read .*words\.txt"):
        decoder_of(options, TOKENS)


@with_wfst
@pytest.mark.parametrize("package", KALDI)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    options = Decoding(decode="wfst", lm=str(arpa(tmp_path)))
    message = rf"needs {package}, .* run `pip install 'mercore-paraformer\[wfst\]'`"
    with pytest.raises(RunError, match=message):
        decoder_of(options, TOKENS)


def test_missing_kenlm_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kenlm", None)
    file = tmp_path / "lm.kenlm"
    file.write_bytes(b"mmap lm http://kheafield.com/code format version 5")
    with pytest.raises(RunError, match="needs kenlm, which is not installed; run `pip install"):
        decoder_of(Decoding(decode="beam", lm=str(file)), TOKENS)
