from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mercore.cli import main
from mercore.ngrams import read_arpa

LINES = ["你好，世界！", "你好吗？我很好。", "世界你好", "Hello 世界", "我很好，你好吗"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text("\n".join(LINES), encoding="utf-8")
    tokens = ["<blank>", "<s>", "</s>", *"你好世界吗我很早", "<unk>"]
    (tmp_path / "tokens.json").write_text(json.dumps(tokens), encoding="utf-8")
    return tmp_path


def mer(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(main, ("lm", *arguments), input=given, catch_exceptions=False)


def mer_json(*arguments: str) -> Any:
    result = mer(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_model_is_built_and_scores_text(folder: Path) -> None:
    result = mer("build", "corpus.txt", "--order", "2")
    assert result.exit_code == 0, result.output
    assert "5 sentences, 23 units, 0 unknown: 11 1-grams, 17 2-grams" in result.stdout
    assert f"Model: lm.arpa ({Path('lm.arpa').stat().st_size / 1e3:.1f} kB)" in result.stdout
    model = read_arpa(Path("lm.arpa"))
    assert model.order == 2
    assert "hello" in model
    assert "，" not in model
    Path("text.txt").write_text("你好世界\n早\n", encoding="utf-8")
    found = mer_json("score", "lm.arpa", "text.txt")
    assert {key: found[key] for key in ("order", "sentences", "units", "unknown")} == {
        "order": 2, "sentences": 2, "units": 5, "unknown": 1,
    }  # fmt: skip
    assert found["perplexity"] > found["known_perplexity"] > 1
    assert mer_json("score", "lm.arpa", "corpus.txt")["perplexity"] < found["perplexity"]
    shown = mer("score", "lm.arpa", "text.txt").stdout
    expected = f"perplexity {found['perplexity']:.2f}; of known units"
    assert shown.startswith(f"2 sentences, 5 units, 1 unknown: {expected}")


def test_json_tells_what_was_built(folder: Path) -> None:
    about = mer_json("build", "corpus.txt", "corpus.txt", "--out", "new/lm.arpa.gz")
    packed = Path("new/lm.arpa.gz").read_bytes()
    assert gzip.decompress(packed).startswith(b"\\data\\\nngram 1=11\n")
    assert about["model"] == "new/lm.arpa.gz"
    assert about["bytes"] == len(packed)
    assert (about["order"], about["sentences"], about["units"]) == (3, 10, 46)
    assert about["ngrams"][:2] == [11, 17]
    assert about["discounts"][2] == [0.5, 1.0, 1.5] != about["discounts"][1]
    assert len(about["warnings"]) == 1


def test_what_is_guessed_is_a_warning_on_stderr(folder: Path) -> None:
    result = mer("build", "corpus.txt", "--json")
    warning = "too little text, or text that repeats itself, to estimate the discounts of the"
    assert result.stderr.startswith(f"Warning: {warning} 1-grams, 3-grams; 0.5, 1.0, 1.5 are taken")
    assert json.loads(result.stdout)["warnings"][0].startswith(warning)


def test_text_comes_from_the_standard_input_too(folder: Path) -> None:
    text = "\n".join(LINES)
    assert mer("build", "-", "--out", "piped.arpa", given=text).exit_code == 0
    assert mer("build", "corpus.txt").exit_code == 0
    assert Path("piped.arpa").read_bytes() == Path("lm.arpa").read_bytes()
    piped = mer("score", "lm.arpa", "-", given=text)
    assert piped.stdout == mer("score", "lm.arpa", "corpus.txt").stdout
    result = mer("build", "-", given="\n")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no sentence to build a language model from")


def test_a_model_goes_to_the_standard_output_too(folder: Path) -> None:
    assert mer("build", "corpus.txt").exit_code == 0
    result = mer("build", "corpus.txt", "--out", "-")
    assert result.exit_code == 0
    assert result.stdout == Path("lm.arpa").read_text(encoding="utf-8")
    assert "Warning" in result.stderr
    assert not Path("-").exists()
    result = mer("build", "corpus.txt", "--out", "-", "--json")
    assert result.exit_code == 2
    assert "--out - and --json both print; give the model a file" in result.stderr


def test_a_pipe_is_read_like_a_file(folder: Path) -> None:
    os.mkfifo("pipe")
    with subprocess.Popen(["cp", "corpus.txt", "pipe"]):
        assert mer_json("build", "pipe")["sentences"] == 5


def test_with_tokens_the_model_has_the_vocabulary_of_a_checkpoint(folder: Path) -> None:
    about = mer_json("build", "corpus.txt", "--tokens", "tokens.json", "--order", "2")
    assert about["unknown"] == 1  # hello
    known = {word for (word, *more) in read_arpa(Path("lm.arpa")).probabilities if not more}
    assert known == {*json.loads(Path("tokens.json").read_text(encoding="utf-8"))}


def test_the_units_may_be_words_or_tokens(folder: Path) -> None:
    assert mer_json("build", "corpus.txt", "--units", "words")["ngrams"][0] == 9
    assert mer_json("score", "lm.arpa", "corpus.txt", "--units", "words")["unknown"] == 0
    Path("cut.txt").write_text("你 好\n世 界\n", encoding="utf-8")
    cut = ("build", "cut.txt", "--units", "tokens")
    assert mer_json(*cut, "--tokens", "tokens.json")["units"] == 4
    result = mer(*cut)
    assert result.exit_code == 2
    assert "--units tokens needs --tokens FILE" in result.stderr
    Path("cut.txt").write_text("你 好\n世界\n", encoding="utf-8")
    result = mer(*cut, "--tokens", "tokens.json")
    assert result.exit_code == 1
    assert result.stderr == "Error: cut.txt:2: '世界' is not in the list of tokens\n"


def test_pruning_makes_the_model_smaller(folder: Path) -> None:
    whole = mer_json("build", "corpus.txt")["ngrams"]
    pruned = mer_json("build", "corpus.txt", "--prune", "1")["ngrams"]
    assert pruned[0] == whole[0]
    assert pruned[1] < whole[1]
    assert pruned[2] < whole[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", "nope.txt"), "cannot read the text nope.txt: No such file or directory"),
        (("build", "latin.txt"), "latin.txt:2: not UTF-8: invalid continuation byte"),
        (("build", "corpus.txt", "--tokens", "corpus.txt"), "cannot read the tokens in corpus.txt"),
        (("build", "corpus.txt", "--out", "corpus.txt/lm"), "cannot write corpus.txt/lm: "),
        (("score", "corpus.txt", "corpus.txt"), "corpus.txt:5: the file ends, expected \\data\\"),
        (("score", "nope.arpa", "corpus.txt"), "cannot read the language model nope.arpa: No such"),
    ],
)
def test_an_error_is_one_line(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    Path("latin.txt").write_bytes("ok\ncafé au lait\n".encode("latin-1"))
    result = mer(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1
    assert not Path("lm.arpa").exists()


def test_a_failed_build_leaves_the_old_model(folder: Path) -> None:
    mer("build", "corpus.txt")
    before = Path("lm.arpa").read_bytes()
    Path("more.txt").write_bytes(b"\xff")
    assert mer("build", "corpus.txt", "more.txt").exit_code == 1
    assert Path("lm.arpa").read_bytes() == before
    names = {path.name for path in folder.iterdir()}
    assert names == {"corpus.txt", "more.txt", "lm.arpa", "tokens.json"}


def test_a_terminal_shows_how_far_it_is(folder: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from mercore.cli import main; main()", "lm", "build"]
    done = subprocess.run(
        [*command, "corpus.txt", "--json"],
        stdout=subprocess.PIPE, stderr=theirs, text=True, check=True,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "corpus.txt" in shown
    assert "3/3" in shown
    assert json.loads(done.stdout)["units"] == 23


def test_help_and_building_import_no_plugin_and_nothing_heavy(folder: Path) -> None:
    code = (
        "import sys\n"
        "from mercore.cli import main\n"
        "main(['lm', 'build', '--help'], standalone_mode=False)\n"
        "assert not {'numpy', 'rich', 'mercore.ngrams'} & set(sys.modules)\n"
        "main(['lm', 'build', 'corpus.txt'], standalone_mode=False)\n"
        "heavy = {'torch', 'zarr', 'sklearn', 'av', 'scipy'} & set(sys.modules)\n"
        "heavy |= {name for name in sys.modules if name.startswith('mercore_')}\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Build a model from text" in done.stdout


def test_a_corpus_is_not_written_over_and_a_model_is_no_corpus(folder: Path) -> None:
    before = (folder / "corpus.txt").read_bytes()
    done = mer("build", "corpus.txt", "--out", "./corpus.txt")
    assert done.exit_code == 2
    assert "is a corpus" in done.stderr
    assert (folder / "corpus.txt").read_bytes() == before
    assert mer("build", "corpus.txt").exit_code == 0
    done = mer("build", "lm.arpa", "--out", "other.arpa")
    assert "lm.arpa: is a language model (ARPA), expected text" in done.stderr


def test_units_of_another_kind_are_suspected(folder: Path) -> None:
    (folder / "corpus.txt").write_text("今天 天气\n")
    assert mer("build", "corpus.txt", "--units", "words").exit_code == 0
    done = mer("score", "lm.arpa", "corpus.txt")
    assert "was it built with --units words?" in done.stderr
    assert "Warning" not in mer("score", "lm.arpa", "corpus.txt", "--units", "words").stderr
