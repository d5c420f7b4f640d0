"""Pictures to pre-train on: found, read, measured and held out."""

from __future__ import annotations

import io
import os
import signal
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mercore.cli import main
from mercore.components import Inputs
from mercore.errors import InputError, RunError
from mercore.limits import Limits
from mercore.media import Frames
from mercore.tuning import PicturePretraining
from mercore.tuning._data import Chosen
from mercore.tuning._pictures import Images, Shards, parted, read_picture
from mercore.tuning._sift import Sieve, sharpness
from mercore.watch import Silent

random = np.random.default_rng(0)
NOISE = Image.fromarray(random.integers(0, 256, (40, 60, 3), np.uint8))


def save(file: Path, image: Image.Image = NOISE, **options: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, **options)  # type: ignore[arg-type]
    return file


def shard(file: Path, pictures: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w") as archive:
        for name, content in pictures.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file


def png(image: Image.Image = NOISE) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def pixels(inputs: Inputs) -> NDArray[np.uint8]:
    media = inputs["frames"]
    assert isinstance(media, Frames)
    (picture,) = media.pixels
    return np.asarray(picture)


def test_folders_give_their_pictures_in_order_of_paths(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/10.webp", "a/é.jpg", "a/deep/er/1.jpeg"):
        save(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    source = Images.below([str(tmp_path / "b"), str(tmp_path / "a")], "frames")
    names = [Path(source.name(row)).relative_to(tmp_path) for row in range(len(source))]
    assert list(map(str, names)) == ["b/10.webp", "b/2.PNG", "a/deep/er/1.jpeg", "a/é.jpg"]
    assert np.array_equal(pixels(source[1]), np.asarray(NOISE))


def test_shards_give_the_pictures_of_their_members(tmp_path: Path) -> None:
    other = NOISE.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    shard(tmp_path / "f-08.tar", {"0.png": png(), "0.json": b"{}", "1.png": png(other)})
    shard(tmp_path / "f-09.tar", {"2.png": png(other)})
    source = Shards.of([str(tmp_path / "f-{08..09}.tar")], "frames")
    assert [source.name(row).rpartition("/")[2] for row in range(3)] == [
        "f-08.tar:0.png", "f-08.tar:1.png", "f-09.tar:2.png",
    ]  # fmt: skip
    assert np.array_equal(pixels(source[0]), np.asarray(NOISE))
    assert np.array_equal(pixels(source[2]), np.asarray(other))


def test_places_without_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no picture; expected files that end in \.jpg"):
        Images.below([str(tmp_path)], "frames")
    with pytest.raises(RunError, match="is no folder"):
        Images.below([str(tmp_path / "nowhere")], "frames")
    with pytest.raises(RunError, match=r"not there: .*f-0.tar, .*f-1.tar"):
        Shards.of([str(tmp_path / "f-{0..1}.tar")], "frames")
    empty = shard(tmp_path / "empty.tar", {"notes.txt": b"none"})
    with pytest.raises(RunError, match=r"no picture in .*empty\.tar"):
        Shards.of([str(empty)], "frames")
    whole = shard(tmp_path / "cut.tar", {"0.png": png(), "1.png": png()}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(RunError, match=r"cut\.tar: cannot be read as a tar file.*whole and not"):
        Shards.of([str(tmp_path / "cut.tar")], "frames")


def test_a_picture_is_read_upright_in_three_colours(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned = read_picture(str(save(tmp_path / "t.png", exif=exif)), "t").pixels[0]
    assert np.array_equal(turned, np.rot90(np.asarray(NOISE), -1))
    palette = NOISE.convert("P")
    palette.info["transparency"] = bytes(range(256))
    for image in (palette, NOISE.convert("L"), NOISE.convert("LA")):
        file = save(tmp_path / "p.png", image)
        assert read_picture(str(file), "p").pixels.shape == (1, 40, 60, 3)


def test_a_picture_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(InputError, match=r"text\.png: is no picture; expected JPEG, PNG, WEBP"):
        read_picture(str(text), str(text))
    cut = save(tmp_path / "cut.jpg")
    cut.write_bytes(cut.read_bytes()[:500])
    with pytest.raises(InputError, match=r"cut\.jpg: cannot be read as a picture: Truncated File"):
        read_picture(str(cut), str(cut))
    with pytest.raises(InputError, match="2400 pixels or more, and the limit is 100"):
        read_picture(str(save(tmp_path / "large.png")), "large", Limits(max_pixels=100))
    with pytest.raises(InputError, match="gone: cannot be read as a picture: No such file"):
        read_picture(str(tmp_path / "gone.png"), "gone")


def test_blurred_small_and_long_pictures_are_left_out_and_counted(tmp_path: Path) -> None:
    sharp = Image.fromarray(random.integers(0, 256, (224, 224, 3), np.uint8))
    save(tmp_path / "0.png", sharp)
    save(tmp_path / "1.png", sharp.filter(ImageFilter.GaussianBlur(4)))
    save(tmp_path / "2.png", sharp.resize((224, 20)))
    save(tmp_path / "3.png", sharp.resize((600, 224)))
    (tmp_path / "4.png").write_text("no picture")
    sieve = sieve_of(tmp_path)
    tuning = Demands(sharpness=100, smallest=30, longest=2.5)
    rows, counts = sieve.kept(tuning)
    assert rows.tolist() == [0]
    assert counts == {
        "unreadable": 1, "too small": 1, "too long": 1, "blurred": 1,
        "without a face": 0, "turned": 0, "incomplete": 0,
    }  # fmt: skip


def test_pictures_without_a_whole_face_from_the_front_are_left_out(tmp_path: Path) -> None:
    records = {0: {}, 1: {"turn": 0.1, "outside": 0}, 2: {"turn": 0.6, "outside": 0.9},
               3: {"turn": 0, "outside": 0.3}}  # fmt: skip
    for number in range(5):
        save(tmp_path / f"{number}.png", Image.new("L", (8, 8), number))

    def detector(frames: Frames) -> dict[str, float]:
        found = records.get(int(frames.pixels[0, 0, 0, 0]))
        if found is None:
            raise InputError("no face")
        return found

    sieve = replace(sieve_of(tmp_path), detector=detector)
    rows, counts = sieve.kept(Demands(detector="some", turned=0.4, outside=0.2))
    assert rows.tolist() == [0, 1]
    assert (counts["without a face"], counts["turned"], counts["incomplete"]) == (1, 1, 1)
    with pytest.raises(ValueError, match="turned and outside need a detector"):
        Demands(turned=0.4)


def test_pictures_are_measured_once(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png")
    first = sieve_of(tmp_path).measured()
    table = np.load(tmp_path / "measured.npy")
    table[1] = 0  # as if it had been killed before
    np.save(tmp_path / "measured.npy", table)
    for number in (0, 2):
        (tmp_path / f"{number}.png").write_text("not looked at again")
    assert np.array_equal(sieve_of(tmp_path).measured(), first)


def test_ctrl_c_keeps_what_is_measured_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = save(tmp_path / "faces/0.png", NOISE)
    for number in range(1, 600):
        os.link(first, tmp_path / f"faces/{number}.png")
    arguments = ["pretrain", "vit_mae", "--images=faces", "--measure", "--out=out"]

    def stop() -> None:
        while not measured():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    def measured() -> int:
        return sum(int((np.load(file)[:, 0] > 0).sum()) for file in Path("out").glob("*.npy"))

    thread = threading.Thread(target=stop)
    thread.start()
    result = CliRunner().invoke(main, arguments)
    thread.join()
    assert result.exit_code == 130
    assert "Interrupted: what is done is kept; run it again to go on" in result.stderr
    assert 0 < measured() < 600
    assert measured() % 256 == 0
    monkeypatch.setenv("RANK", "1")  # as in the second of two processes, which prints nothing
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout, measured()) == (0, "", 600)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    grey = np.zeros((5, 5, 3), np.uint8)
    grey[2, 2] = 10  # so that the Laplacian of the 3 x 3 inside is 4 times 10, 5 times 0 or -40
    assert sharpness(grey) == pytest.approx(np.var([0, 10, 0, 10, -40, 10, 0, 10, 0]))


def test_a_share_is_held_out_and_never_all() -> None:
    train, valid = parted(200, 0.01, seed=0)
    assert len(valid) == 2
    assert sorted([*train, *valid]) == list(range(200))
    assert (
        parted(200, 0.01, seed=0)[1].tolist() == valid.tolist() != parted(200, 0.01, 1)[1].tolist()
    )
    assert [len(part) for part in parted(2, 0.99, 0)] == [1, 1]


class Demands(PicturePretraining):
    """The demands alone."""

    def prepare(self, *_: object, **__: object) -> None:  # type: ignore[override]
        raise NotImplementedError  # only its demands are looked at


def sieve_of(folder: Path) -> Sieve:
    source = Images.below([str(folder)], "frames")
    chosen = Chosen(source, np.arange(len(source)))
    return Sieve(chosen, "frames", folder / "measured.npy", 2, Silent())
