"""Small data sets in the layouts of common ones, with real clips that last a moment."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from mertools_files import write_labels

from mercore.encode import write_mp4, write_wav
from mercore.media import Frames, Waveform

EMOTIONS = ("neutral", "angry", "happy", "sad", "worried", "surprise")


@cache
def clip(ending: str) -> bytes:
    """Return a fifth of a second of tone, as video beside a grey picture."""
    times = np.arange(3_200) / 16_000
    sound = Waveform((np.sin(2_000 * times) / 2).astype(np.float32), 16_000)
    pixels = np.full((2, 48, 64, 3), 128, np.uint8)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"clip.{ending}"
        if ending == "wav":
            write_wav(path, sound)
        else:
            silent = ending == "silent.mp4"
            frames = Frames(pixels, np.array([0.0, 0.1]))
            write_mp4(path, [frames], None if silent else sound)
        return path.read_bytes()


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def put_clips(folder: Path, names: Sequence[str], ending: str = "mp4") -> None:
    for name in names:
        put(folder / f"{name}.{ending}", clip(ending))


def put_csv(path: Path, columns: str, rows: Sequence[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns.split(","))
        writer.writerows(rows)
    return path


def names(count: int, start: int = 0) -> list[str]:
    return [f"sample_{number:08}" for number in range(start, start + count)]


def mer2023(root: Path) -> None:
    """Each split with a folder; of test3 only some have a label, of test2 no label is known yet."""
    for split, ids in {"train": names(12), "test1": names(6, 12), "test3": names(6, 18)}.items():
        rows = [(name, EMOTIONS[number % 6], 1.5) for number, name in enumerate(ids)]
        put_csv(root / f"{split}-label.csv", "name,discrete,valence", rows)
        put_clips(root / split, ids, "avi" if split == "train" else "mp4")
    put_clips(root / "test2", names(2, 30))
    put_clips(root / "test3", names(4, 40))


def mer2024(root: Path) -> None:
    """Labelled and unlabelled clips, two of which came to be test samples; some with words."""
    rows = [(name, EMOTIONS[number % 6], -10) for number, name in enumerate(names(12))]
    put_csv(root / "label-disdim.csv", "name,discrete,valence", rows)
    put_clips(root / "video-labeled", names(12))
    put_clips(root / "video-unlabeled", names(5, 20))
    reference = [("sample_00000020", "happy"), ("sample_00000021", "sad")]
    put_csv(root / "reference-semi.csv", "name,discrete", reference)
    said = [(name, "你好世界", "Hello world") for name in names(12)]
    put_csv(root / "label-transcription.csv", "name,chinese,english", said)


def mer2024_prepared(root: Path) -> None:
    """As MERTools prepares it: labels of unlabelled samples are all neutral."""
    labels = {name: {"emo": EMOTIONS[number % 6]} for number, name in enumerate(names(12))}
    false = {name: {"emo": "neutral"} for name in names(21, 20)}
    write_labels(root / "label-6way.npz", train=labels, test1=false)
    put_clips(root / "video", [*labels, *false])
    put_clips(root / "audio", list(labels), "wav")
    said = [(name, "你好世界") for name in labels]
    put_csv(root / "transcription.csv", "name,sentence", said)


def mer2025(root: Path) -> None:
    """Candidates are test samples without labels; the rest of the clips is unlabelled."""
    rows = [(name, EMOTIONS[number % 6], 0.5) for number, name in enumerate(names(12))]
    put_csv(root / "track1_train_disdim.csv", "name,discrete,valence", rows)
    put_csv(root / "track_all_candidates.csv", "name", [(name,) for name in names(3, 12)])
    put_clips(root / "video", names(18))
    put_csv(
        root / "subtitle_chieng.csv", "name,chinese,english", [(x, "你好", "Hi") for x in names(18)]
    )


def mmsa(root: Path, videos: Sequence[str], *, zeros: bool, texts: str = "I like it.") -> None:
    """label.csv and Raw; with `zeros`, the numbers of clips have them in the files alone."""
    rows = []
    for video in videos:
        for number in range(1, 7):
            value = (number % 3) - 1.0
            annotation = ("Negative", "Neutral", "Positive")[number % 3]
            mode = ("train", "train", "valid", "train", "train", "test")[number - 1]
            rows.append((video, number, texts, value, "", "", "", annotation, mode))
            put_clips(root / "Raw" / video, [f"{number:04}" if zeros else str(number)])
    columns = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode"
    put_csv(root / "label.csv", columns, rows)


def mosi(root: Path) -> None:
    mmsa(root, ["03bSnISJMiM", "-tPCytz4rww"], zeros=False)


def ch_sims(root: Path) -> None:
    mmsa(root, ["video_0001", "video_0002"], zeros=True, texts="我很喜欢")


def iemocap(root: Path) -> None:
    """Two sessions: improvised dialogues with the labels in their files, xxx where none agreed."""
    codes = ("neu", "hap", "exc", "sad", "ang", "neu", "sad", "ang", "xxx", "fru")
    for session in (1, 5):
        base, name = root / f"Session{session}", f"Ses0{session}F_impro01"
        turns = [f"{name}_{'FM'[number % 2]}{number:03}" for number in range(len(codes))]
        put_clips(base / "sentences/wav" / name, turns, "wav")
        put(base / "sentences/wav" / name / f"._{turns[0]}.wav", b"not a sound")
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for turn, code in zip(turns, codes, strict=True):
            lines += [f"[6.2901 - 8.2357]\t{turn}\t{code}\t[2.5000, 2.5000, 2.5000]"]
            lines += ["C-E2:\tNeutral;\t()", ""]
        put(base / "dialog/EmoEvaluation" / f"{name}.txt", "\n".join(lines))
        said = [f"{turn} [006.2901-008.2357]: Excuse me." for turn in turns]
        put(base / "dialog/transcriptions" / f"{name}.txt", "\n".join(said) + "\n")


def meld(root: Path) -> None:
    """Rows and clips; one row has no clip, and one clip, a copy, no row."""
    columns = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID"
    emotions = ("neutral", "joy", "anger")
    folders = {
        "train": "train/train_splits",
        "dev": "dev_splits_complete",
        "test": "output_repeated_splits_test",
    }
    for split, folder in folders.items():
        rows = [
            (n, f"Well, “{n}”!", "Ross", emotions[n % 3], "neutral", n // 3, n % 3)
            for n in range(9)
        ]
        put_csv(root / f"{split}_sent_emo.csv", columns, rows)
        put_clips(root / folder, [f"dia{n // 3}_utt{n % 3}" for n in range(9)])
    (root / "dev_splits_complete/dia2_utt2.mp4").unlink()
    put_clips(root / "output_repeated_splits_test", ["final_videos_testdia0_utt0"])


def plain(root: Path) -> None:
    """Folders named after classes, with the words beside some clips."""
    for label in ("happy", "sad"):
        put_clips(root / label, [f"clip {number}" for number in range(4)])
    put(root / "happy/clip 0.txt", "What a day!")
