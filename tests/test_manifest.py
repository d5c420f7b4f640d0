from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mercore.errors import ManifestError
from mercore.manifest import Manifest, Sample

CLASSES = ("sad", "happy")
Write = Callable[[str, str], Path]


def read(path: Path) -> Manifest:
    return Manifest.read(path, CLASSES)


def test_paths_are_relative_to_the_manifest_and_other_columns_are_kept(write: Write) -> None:
    clip = write("clips/a.mp4", "")
    path = write("m.csv", "id,split,label,video,age\na,train,sad,clips/a.mp4,7\n")
    assert read(path).samples == (Sample("a", "train", "sad", {"video": str(clip)}, {"age": "7"}),)


def test_text_is_the_words_or_a_file(write: Write) -> None:
    write("b.txt", "hello")
    path = write("m.csv", 'id,split,text\na,unlabelled,"yes, I do"\nb,test1,b.txt\n')
    first, second = read(path).samples
    assert first.media["text"] == "yes, I do"
    assert first.file("text") is None
    assert Path(second.file("text") or "").name == "b.txt"


def test_audio_is_taken_from_the_video_when_none_is_given(write: Write) -> None:
    write("a.mp4", "")
    (sample,) = read(write("m.csv", "id,split,video\na,test,a.mp4\n")).samples
    assert sample.file("audio") == sample.file("video")


def test_jsonl_is_read_alike(write: Write) -> None:
    path = write("m.jsonl", '{"id": "a", "split": "test", "text": "hi", "take": 3}\n\n')
    assert read(path).samples == (Sample("a", "test", None, {"text": "hi"}, {"take": "3"}),)


def test_every_mistake_is_reported_at_once_with_its_line(write: Write) -> None:
    path = write(
        "m.csv",
        "id,split,label,video,text\n"
        "a,train,sad,,hi\n"
        "a,train,hapy,,hi\n"
        "b,tran,,,hi\n"
        "c,train,,none.mp4,\n"
        ",test,,,\n",
    )
    with pytest.raises(ManifestError) as caught:
        read(path)
    found = str(caught.value)
    assert "has 7 mistakes" in found
    assert "m.csv:3: id 'a' is already on line 2" in found
    assert "m.csv:3: label 'hapy' is not a class of the registry; did you mean 'happy'?" in found
    assert "m.csv:4: split 'tran': expected train, unlabelled, or test and any letters" in found
    assert "m.csv:5: a train sample needs a label" in found
    assert "m.csv:5: video: no such file: 'none.mp4'" in found
    assert "m.csv:6: no id" in found
    assert "m.csv:6: none of video, audio, text is given" in found


def test_mistakes_are_told_in_the_order_of_the_file(write: Write) -> None:
    path = write("m.csv", "id,split,label,text\na,test,joy,no.txt\nb,tran,joy,\n,test,,hi\n")
    with pytest.raises(ManifestError) as caught:
        read(path)
    lines = [line.strip() for line in str(caught.value).splitlines()[1:]]
    starts = [
        "m.csv:2: label 'joy'", "m.csv:2: text: no such file: 'no.txt'",
        "m.csv:3: split 'tran'", "m.csv:3: label 'joy'", "m.csv:3: none of video, audio, text",
        "m.csv:4: no id",
    ]  # fmt: skip
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def test_lines_are_those_of_the_file_also_after_blank_ones_and_broken_text(write: Write) -> None:
    path = write("m.csv", 'id,split,text\n\na,test,"two\nlines"\n\nb,tst,hi\na,test,hi\n')
    with pytest.raises(ManifestError) as caught:
        read(path)
    assert "m.csv:6: split 'tst'" in str(caught.value)
    assert "m.csv:7: id 'a' is already on line 4" in str(caught.value)


def test_a_short_row_has_no_value_in_its_last_columns(write: Write) -> None:
    (sample,) = read(write("m.csv", "id,split,text,label,age\n a ,test, hi\n")).samples
    assert sample == Sample("a", "test", None, {"text": "hi"}, {"age": ""})


def test_a_video_gives_audio_too(write: Write) -> None:
    write("a.mp4", "")
    manifest = read(write("m.csv", "id,split,video\na,test,a.mp4\n"))
    assert [manifest.gives(medium) for medium in ("video", "audio", "text")] == [True, True, False]


def test_samples_from_elsewhere_are_a_manifest_too() -> None:
    samples = (
        Sample("a", "test", None, {"video": "/a.mp4", "text": "hi"}),
        Sample("b", "train", "sad", {"text": "ho"}, {"age": "7"}),
    )
    manifest = Manifest.of("elsewhere", samples)
    assert manifest.samples == samples
    assert manifest.ids == ["a", "b"]
    assert manifest.splits == ("train", "test")


def test_a_whole_wrong_column_does_not_fill_the_screen(write: Write) -> None:
    rows = "".join(f"{i},train,joy,hi\n" for i in range(100))
    with pytest.raises(ManifestError, match=r"100 mistakes(.|\n)*and 80 more"):
        read(write("m.csv", "id,split,label,text\n" + rows))


def test_a_bare_manifest_needs_no_medium(write: Write) -> None:
    path = write("m.csv", "id,split,label\na,test,\nb,test,joy\n")
    with pytest.raises(ManifestError, match=r"1 mistake(.|\n)*m.csv:3: label 'joy'"):
        Manifest.read(path, CLASSES, bare=True)
    rows = write("m.jsonl", '{"id": "a", "split": "test"}\n')
    assert Manifest.read(rows, CLASSES, bare=True).ids == ["a"]
    with pytest.raises(ManifestError, match="none of video, audio, text is given"):
        Manifest.read(rows, CLASSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,splt,text\na,train,x\n", "no column 'split' .*did you mean 'splt'"),
        ("id,split\na,train\n", "none of the columns video, audio, text"),
        ("id,split,text,text\n", "column 'text' occurs twice"),
        ("id,split,text\na,test,yes, I do\n", "m.csv:2: more fields than columns"),
        ("id,split,text\n", "no samples"),
    ],
)
def test_a_wrong_table_is_said_to_be_so(write: Write, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        read(write("m.csv", text))


@pytest.mark.parametrize(
    "value", ["[" * 100_000, '{"a":' * 100_000, "9" * 5_000], ids=["lists", "objects", "digits"]
)
def test_a_hostile_row_is_refused_with_its_line(write: Write, value: str) -> None:
    path = write("m.jsonl", '{"id": "a", "split": "test", "text": "x"}\n{"id": ' + value)
    with pytest.raises(ManifestError, match=r"m.jsonl:2: not JSON"):
        read(path)


def test_a_field_without_an_end_is_refused(write: Write) -> None:
    path = write("m.csv", 'id,split,text\na,test,"' + "x" * 200_000 + "\n")
    with pytest.raises(ManifestError, match=r"m.csv:2: (field larger than|unexpected end)"):
        read(path)


def test_a_manifest_of_a_million_rows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    with path.open("w") as file:
        file.write("id,split,text\n")
        file.writelines(f"{number},test,x\n" for number in range(10**6))
    assert len(read(path).ids) == 10**6


def test_a_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"cannot read the manifest .*m.csv"):
        read(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_bytes(b"id,split,text\na,test,\xff\n")
    with pytest.raises(ManifestError, match="not UTF-8 at byte"):
        read(tmp_path / "m.csv")


def test_splits_come_train_first_unlabelled_last(write: Write) -> None:
    rows = "a,unlabelled,,x\nb,test_b,,x\nc,train,sad,x\nd,test1,,x\n"
    assert read(write("m.csv", "id,split,label,text\n" + rows)).splits == (
        "train",
        "test1",
        "test_b",
        "unlabelled",
    )


def test_a_column_with_one_value_is_a_note(write: Write) -> None:
    rows = "a,test,x,true,1\nb,test,y,true,2\n"
    assert read(write("m.csv", "id,split,text,synthetic,take\n" + rows)).notes == {
        "synthetic": "true"
    }


def test_a_misspelt_column_is_not_taken_for_one_to_keep(write: Write) -> None:
    with pytest.raises(ManifestError, match="unknown column 'vidoe'; did you mean 'video'"):
        read(write("m.csv", "id,split,vidoe,text\na,test,a.mp4,hi\n"))
    assert read(write("n.csv", "id,split,text,texts\na,test,hi,ho\n")).samples[0].extra


def test_other_separators_are_named(write: Write) -> None:
    with pytest.raises(ManifestError, match="separate columns by commas"):
        read(write("m.csv", "id;split;text\na;test;hi\n"))
