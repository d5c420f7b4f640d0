from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from toy_clips import write_mp4, write_wav

from mercore.batches import apply, in_batches, load_of
from mercore.components import Inputs
from mercore.errors import CheckpointError, InputError, PluginError, RegistryError, RunError
from mercore.extract import extract, needed
from mercore.extraction import Outcome
from mercore.machine import Machine
from mercore.manifest import Manifest, Sample
from mercore.media import Frames, Text, Waveform
from mercore.pipeline import Pipeline
from mercore.plugins import Plugins
from mercore.reader import Item
from mercore.registry import Registry
from mercore.resolve import resolve
from mercore.sources import Sources
from mercore.status import superseded
from mercore.store import Store
from mercore.watch import Silent

Write = Callable[[str, str], Path]
RED, BLUE = (200, 20, 20), (20, 20, 200)

TEXT_ONLY = """\
classes: [sad, happy]
features:
  words: {uses: letters, inputs: {text: text}, frames: true}
"""
WHOLE = """\
classes: [sad, happy]
streams:
  soft: {uses: halve, inputs: {audio: audio}}
  loud: {uses: shout, inputs: {text: text}}
  faces: {uses: stills, inputs: {video: video}}
features:
  words: {uses: letters, inputs: {text: loud}}
  sound: {uses: loudness, inputs: {audio: soft}}
  shade: {uses: brightness, inputs: {video: faces}}
"""


class Bench:
    """A registry and a manifest in one folder."""

    def __init__(self, folder: Path, registry: str) -> None:
        self.folder = folder
        self.rows: dict[str, str] = {}
        self.registry = registry
        self.store = Store(folder / "mer.zarr")

    def run(self, *names: str, retry_failed: bool = False, parallel: int = 0) -> dict[str, Outcome]:
        machine = Machine(device="cpu", parallel=parallel)
        done = extract(
            self.pipeline(), self.manifest(), self.store, machine,
            names=names, retry_failed=retry_failed,
        )  # fmt: skip
        return {outcome.node.name: outcome for outcome in done}

    def pipeline(self) -> Pipeline:
        path = self.folder / "registry.yaml"
        path.write_text(self.registry)
        return resolve(Registry.read(path), Plugins())

    def manifest(self) -> Manifest:
        path = self.folder / "manifest.csv"
        lines = [f"{name},test,{media}" for name, media in self.rows.items()]
        path.write_text("\n".join(["id,split,video,audio,text", *lines]) + "\n")
        return Manifest.read(path, ("sad", "happy"))


@pytest.fixture
def texts(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path, TEXT_ONLY)
    bench.rows = {"one": ",,ab ba", "two": ",,aaa", "three": ",,c a b"}
    return bench


@pytest.fixture
def clips(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path, WHOLE)
    write_mp4(tmp_path / "a.mp4", [RED] * 10, tone=300)
    write_mp4(tmp_path / "b.mp4", [BLUE] * 6, tone=500)
    write_wav(tmp_path / "b.wav", 0.4, gain=0.25)
    bench.rows = {"a": "a.mp4,,abc", "b": "b.mp4,b.wav,ccc"}
    return bench


def test_features_are_the_mean_over_frames_and_frames_are_kept_when_asked(texts: Bench) -> None:
    outcome = texts.run()["words"]
    assert (outcome.samples, outcome.extracted, outcome.failed) == (3, 3, {})
    feature = texts.store["words"]
    assert feature.matrix(["three", "one"])[:, :3].tolist() == [
        pytest.approx([1 / 3, 1 / 3, 1 / 3]),
        [1.0, 1.0, 0.0],
    ]
    (frames,) = feature.sequences(["three"])
    assert frames.dtype == np.float16
    assert frames[:, :3].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]


def test_components_load_one_after_another(texts: Bench) -> None:
    features = [f"  x{n}: {{uses: lonely, inputs: {{text: text}}}}" for n in range(4)]
    texts.registry = "\n".join(["classes: [sad, happy]", "features:", *features, ""])
    assert [outcome.extracted for outcome in texts.run(parallel=4).values()] == [3] * 4


def test_derived_streams_feed_features(clips: Bench) -> None:
    clips.registry = WHOLE.replace("{text: loud}}", "{text: loud}, with: {letters: 3}}")
    clips.run()
    # `shout` makes upper case, of which `letters` counts none.
    assert clips.store["words"].matrix(["a"]).tolist() == [[0, 0, 0]]
    sound = clips.store["sound"].matrix(["a", "b"])
    assert sound[:, 0] == pytest.approx([0.25 / 2**0.5, 0.125 / 2**0.5], rel=0.03)
    shade = clips.store["shade"].matrix(["a", "b"])
    assert np.abs(shade - [RED, BLUE]).max() < 6


def test_a_second_run_does_nothing(texts: Bench) -> None:
    texts.run()
    assert texts.run()["words"].extracted == 0


def test_only_new_samples_are_extracted(texts: Bench) -> None:
    texts.run()
    texts.rows["four"] = ",,dad"
    outcome = texts.run()["words"]
    assert (outcome.samples, outcome.extracted) == (4, 1)


def test_a_changed_file_is_extracted_again_and_a_touched_one_is_not(clips: Bench) -> None:
    clips.run()
    (clips.folder / "a.mp4").touch()
    assert {outcome.extracted for outcome in clips.run().values()} == {0}
    write_mp4(clips.folder / "a.mp4", [BLUE] * 10, tone=300)
    done = clips.run()
    assert {name: outcome.extracted for name, outcome in done.items()} == {
        "soft": 1, "loud": 0, "faces": 1, "words": 0, "sound": 1, "shade": 1,
    }  # fmt: skip
    assert np.abs(clips.store["shade"].matrix(["a"]) - BLUE).max() < 6


def test_changed_words_are_extracted_again(texts: Bench) -> None:
    texts.run()
    texts.rows["two"] = ",,bbb"
    assert texts.run()["words"].extracted == 1
    assert texts.store["words"].matrix(["two"])[0, :2].tolist() == [0, 3]


def test_the_id_of_a_sample_is_read_like_its_words(texts: Bench) -> None:
    texts.registry = """\
classes: [sad, happy]
streams:
  signed: {uses: sign}
features:
  words: {uses: letters, inputs: {text: signed}, frames: true}
  name: {uses: letters, inputs: {text: id}}
"""
    assert texts.run()["signed"].failed == {}
    assert texts.store["name"].matrix(["two"])[0, [0, 14, 19, 22]].tolist() == [0, 1, 1, 1]
    assert texts.store["words"].sequences(["two"])[0][:, [0, 19]].tolist() == [[3, 0], [0, 1]]
    texts.rows["four"] = texts.rows.pop("three")
    again = texts.run()
    assert [again[name].extracted for name in ("signed", "words", "name")] == [1, 1, 1]
    assert texts.run()["signed"].extracted == 0


def test_an_id_is_the_source_of_what_is_made_from_it(texts: Bench) -> None:
    sources, (one, two, _) = Sources(), texts.manifest().samples
    assert sources.unchanged(sources.identity(one, ["id"]), one, ["id"])
    assert not sources.unchanged(sources.identity(one, ["id"]), two, ["id"])


def test_a_changed_option_extracts_anew_and_keeps_the_old(texts: Bench) -> None:
    old = texts.run()["words"].node
    texts.registry = TEXT_ONLY.replace("frames: true", "with: {letters: 4}")
    new = texts.run()["words"]
    assert new.extracted == 3
    assert new.node.fingerprint != old.fingerprint
    kept = texts.store.collection("features", "words", old.fingerprint)
    assert kept is not None
    assert kept.matrix(["one"]).shape == (1, 26)
    assert texts.store["words"].matrix(["one"]).shape == (1, 4)
    stale = superseded(texts.pipeline(), texts.store)
    assert {(c.group, c.fingerprint) for c in stale} == {
        ("features", old.fingerprint),
        ("frames", old.fingerprint),
    }
    texts.registry = TEXT_ONLY
    assert texts.run()["words"].extracted == 0
    assert texts.store["words"].matrix(["one"]).shape == (1, 26)


def test_frames_that_are_asked_for_later_are_made_later(texts: Bench) -> None:
    texts.registry = TEXT_ONLY.replace(", frames: true", "")
    texts.run()
    texts.registry = TEXT_ONLY
    assert texts.run()["words"].extracted == 3
    assert len(texts.store["words"].sequences(["one", "two"])) == 2


def test_bad_samples_fail_alone_with_a_reason_and_are_not_tried_again(texts: Bench) -> None:
    texts.rows |= {"bad": ",,refuse", "sick": ",,nan", "slim": ",,narrow", "big": ",,huge"}
    outcome = texts.run()["words"]
    assert outcome.failed == {
        "bad": "this text is refused",
        "sick": "encoder 'letters' returned NaN or infinite values",
        "slim": "encoder 'letters' returned dim 25, expected 26",
    }
    # Its vector is kept; only its frames are not.
    assert texts.store["words"].matrix(["big"]).max() == 1e6
    assert texts.store["words"].header["dim"] == 26
    assert len(texts.store["words"].matrix(["one", "two", "three"])) == 3
    assert texts.run()["words"].extracted == 0
    assert texts.run(retry_failed=True)["words"].extracted == 4


def test_unreadable_files_fail_alone_and_so_does_what_is_derived_from_them(clips: Bench) -> None:
    for name, content in {"empty": b"", "notes": b"no media " * 200}.items():
        (clips.folder / f"{name}.mp4").write_bytes(content)
        clips.rows[name] = f"{name}.mp4,,words"
    whole = (clips.folder / "a.mp4").read_bytes()
    (clips.folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    clips.rows["half"] = "half.mp4,,words"
    clips.rows["mute"] = "a.mp4,,"
    done = clips.run()
    assert set(done["faces"].failed) == {"empty", "notes", "half"}
    assert done["faces"].failed["empty"].startswith("cannot be read as media")
    assert done["shade"].failed["half"].startswith("stream 'faces' failed: cannot be read")
    assert (done["loud"].failed, done["loud"].absent) == ({}, 1)
    assert (done["words"].failed, done["words"].absent) == ({}, 1)
    again = clips.run("loud", retry_failed=True)["loud"]
    assert (again.extracted, again.absent) == (0, 1)
    assert len(clips.store["shade"].matrix(["a", "b", "mute"])) == 3


def test_only_what_is_named_and_what_it_reads_is_extracted(clips: Bench) -> None:
    assert set(clips.run("sound")) == {"soft", "sound"}
    with pytest.raises(RegistryError, match="no stream or feature called 'sund'; did you mean"):
        needed(clips.pipeline(), ["sund"])


def test_out_of_memory_halves_the_batch(texts: Bench) -> None:
    texts.rows |= {f"greedy{i}": f",,greedy {i}" for i in range(5)}
    assert not texts.run()["words"].failed


def test_records_are_kept_with_the_sample(clips: Bench) -> None:
    clips.rows["c"] = "a.mp4,,very loud"
    clips.run("words")
    node = clips.pipeline().streams["loud"]
    stored = clips.store.collection("streams", "loud", node.fingerprint)
    assert stored is not None
    assert {name: entry.record for name, entry in stored.entries().items()} == {
        "a": {}, "b": {}, "c": {"warning": "loud"},
    }  # fmt: skip


def test_plain_zarr_reads_the_store(texts: Bench) -> None:
    node = texts.run()["words"].node
    group = zarr.open_group(str(texts.folder / "mer.zarr"), mode="r")
    bases = group[f"features/words@{node.fingerprint}/base"]
    assert isinstance(bases, zarr.Group)
    (base,) = bases.group_values()
    data, names = base["data"], base["ids"]
    assert isinstance(data, zarr.Array)
    assert isinstance(names, zarr.Array)
    ids = [str(name) for name in np.asarray(names[:])]
    assert sorted(ids) == ["one", "three", "two"]
    assert np.array_equal(data[:], texts.store["words"].matrix(ids))


def text_item(name: str, length: int) -> Item:
    return Item(Sample(name, "test", None, {}), {"text": Text("x" * length)})


def test_batches_hold_samples_of_like_length_within_the_budget() -> None:
    lengths = [5_000, 100, 4_000, 90, 110, 8_000, 95]
    batches = list(in_batches([text_item(str(n), n) for n in lengths], 1.0))
    sizes = [[int(item.sample.id) for item in batch] for batch in batches]
    assert sorted(n for batch in sizes for n in batch) == sorted(lengths)
    assert all(max(batch) * len(batch) <= 8_192 for batch in sizes)
    assert [90, 95, 100, 110] in sizes


def test_a_sample_larger_than_the_budget_is_a_batch_of_its_own() -> None:
    batches = list(in_batches([text_item("long", 99_999), text_item("short", 1)], 1.0))
    assert [len(batch) for batch in batches] == [1, 1]


def test_load_is_in_units_of_each_medium() -> None:
    minute = Waveform(np.zeros(60 * 8_000, np.float32), 8_000)
    frames = Frames(np.zeros((64, 224, 224, 3), np.uint8), np.zeros(64))
    assert load_of({"audio": minute}) == 1.0
    assert load_of({"video": frames}) == 0.25
    assert load_of({"audio": minute, "text": Text("hi")}) == 1.0


def test_errors_no_sample_can_cause_are_raised() -> None:
    def broken(batch: object) -> list[object]:
        raise PluginError("no weights")

    with pytest.raises(PluginError):
        apply(broken, [{}])


def test_a_component_that_loses_samples_is_reported() -> None:
    inputs: list[Inputs] = [{}, {}]
    results = apply(lambda batch: [], inputs)
    assert all(isinstance(result, InputError) for result in results)
    assert "returned 0 results for 2 samples" in str(results[0])


def test_an_interrupted_extraction_keeps_what_it_committed(texts: Bench) -> None:
    texts.rows = {f"s{i}": f",,word {i}" for i in range(1_000)}

    class Impatient(Silent):
        def advance(self, name: str, done: int, failed: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(
            texts.pipeline(), texts.manifest(), texts.store, Machine(device="cpu"),
            watch=Impatient(),
        )  # fmt: skip
    kept = len(texts.store["words"].ids)
    assert 0 < kept < 1_000
    assert texts.run()["words"].extracted == 1_000 - kept


def test_an_error_in_one_feature_ends_the_run(clips: Bench) -> None:
    clips.registry = WHOLE.replace("uses: brightness", "uses: unloadable")
    with pytest.raises(CheckpointError, match="no weights"):
        clips.run()


def test_a_file_that_comes_back_is_extracted(clips: Bench) -> None:
    manifest, pipeline = clips.manifest(), clips.pipeline()
    (clips.folder / "b.wav").rename(clips.folder / "away.wav")
    extract(pipeline, manifest, clips.store, Machine(device="cpu"))
    entry = clips.store.collections("features")[1].entries()["b"]
    assert "No such file" in str(entry.failed)
    (clips.folder / "away.wav").rename(clips.folder / "b.wav")
    assert clips.run()["sound"].failed == {}


def test_a_sample_of_another_shape_fails_alone(clips: Bench) -> None:
    import av

    with av.open(str(clips.folder / "wide.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 96, 48, "yuv420p"
        picture = np.zeros((48, 96, 3), np.uint8)
        container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
    clips.run("faces")
    clips.rows["wide"] = "wide.mp4,,"
    (reason,) = clips.run("faces")["faces"].failed.values()
    assert "(48, 96, 3), the samples before have uint8 rows of shape (48, 64, 3)" in reason


def test_what_is_computed_in_is_part_of_the_fingerprint(texts: Bench) -> None:
    exact = texts.run()["words"].node.fingerprint
    texts.registry = TEXT_ONLY.replace("frames: true", "dtype: bfloat16")
    assert texts.run()["words"].node.fingerprint != exact


def test_what_failed_for_its_stream_is_done_once_the_stream_is_mended(clips: Bench) -> None:
    clips.rows["c"] = "a.mp4,,refuse"
    assert clips.run("words")["words"].failed == {"c": "stream 'loud' failed: nothing to shout"}
    # `refuse` is refused by both components; a text that both accept mends the stream alone.
    clips.rows["c"] = "a.mp4,,accept"
    assert clips.run("loud")["loud"].failed == {}
    done = clips.run("words")["words"]
    assert (done.extracted, done.failed) == (1, {})


def test_a_broken_machine_ends_the_run_and_is_not_taken_for_bad_samples(texts: Bench) -> None:
    texts.registry = TEXT_ONLY.replace("uses: letters", "uses: wobbly")
    texts.rows = {f"s{i}": f",,word {i}" for i in range(50)}
    with pytest.raises(RunError, match="20 samples in a row failed, the last with OSError"):
        texts.run()
    with pytest.raises(RunError):
        texts.run()


def test_an_optional_column_is_read_only_when_asked_and_may_be_empty(clips: Bench) -> None:
    clips.rows["c"] = "a.mp4,,"
    clips.registry = "classes: [a, b]\nfeatures:\n  either: {uses: either}\n"
    assert clips.run()["either"].failed == {}
    assert clips.store["either"].matrix(["a", "c"]).tolist() == [[1.0], [1.0]]
    clips.registry = clips.registry.replace("either}", "either, inputs: {text: text}}")
    assert clips.run()["either"].failed == {}
    assert clips.store["either"].matrix(["a", "c"]).tolist() == [[2.0], [1.0]]


def test_few_new_samples_do_not_rewrite_the_collection(texts: Bench) -> None:
    texts.rows = {f"s{i}": f",,word {i}" for i in range(50)}
    node = texts.run()["words"].node
    folder = texts.folder / f"mer.zarr/features/words@{node.fingerprint}/base"
    base = sorted(path.name for path in folder.iterdir())
    texts.rows["late"] = ",,late"
    assert texts.run()["words"].extracted == 1
    assert sorted(path.name for path in folder.iterdir()) == base
    assert texts.store["words"].matrix(["late"]).shape == (1, 26)
