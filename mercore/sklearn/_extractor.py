"""An encoder as a transformer: files or texts in, one row of numbers each out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from mercore.components import Encoder
from mercore.document import Document
from mercore.errors import InputError, RunError
from mercore.extract import extract
from mercore.feature import SampleFeature
from mercore.machine import Machine
from mercore.manifest import UNLABELLED, Manifest, Sample
from mercore.media import FloatArray
from mercore.pipeline import ROOTS, Pipeline
from mercore.plugins import Plugins
from mercore.registry import Content, Registry
from mercore.resolve import resolve
from mercore.selection import Selection
from mercore.store import Store
from mercore.watch import Silent, Terminal, showing

Medium = Literal["video", "audio", "text"]
_MEDIA: tuple[Medium, ...] = ("video", "audio", "text")
Clip = str | Path | Mapping[str, str | Path]
"""A file or a text, or several media of one clip: ``{"audio": "a.wav", "text": "Hello."}``."""


class FeatureExtractor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """One row of an encoder's feature for each clip: ``(samples, dim)`` float32.

    Parameters
    ----------
    encoder : str
        The name of the encoder; `mer plugins` lists them.
    options : mapping, optional
        Its options, as under ``with:`` in registry.yaml.
    input : {"video", "audio", "text"}, optional
        What an item of X is. Without it, the medium that the encoder reads; an encoder that reads
        several takes items that are mappings, such as ``{"audio": "a.wav", "text": "Hello."}``.
        The audio of a video file may be read too. A text is the words themselves, or a path that
        ends with .txt.
    device, batch : str, float
        As the options of `mer extract`.
    dtype : {"float32", "float16", "bfloat16"}
        What the encoder computes in.
    store : str or path, optional
        A store that keeps the features, so that each file is encoded once, whatever is fitted how
        often. Without one, every call encodes anew.
    missing : {"raise", "nan"}
        What becomes of a clip that the encoder cannot use: a RunError, or a row of NaN.
    progress : bool
        Show progress bars on stderr.

    It learns nothing: ``fit`` checks the encoder, its options and the media, and loads no weights.

    """

    def __init__(
        self,
        encoder: str = "prosody",
        *,
        options: Mapping[str, Any] | None = None,
        input: Medium | None = None,
        device: str = "auto",
        batch: float = 1.0,
        dtype: str = "float32",
        store: str | Path | None = None,
        missing: Literal["raise", "nan"] = "raise",
        progress: bool = False,
    ) -> None:
        self.encoder = encoder
        self.options = options
        self.input = input
        self.device = device
        self.batch = batch
        self.dtype = dtype
        self.store = store
        self.missing = missing
        self.progress = progress

    def fit(self, X: Iterable[Clip], y: object = None) -> FeatureExtractor:
        """Return the extractor; raises a MercoreError for an encoder or options that are wrong.

        Where the encoder does not say how wide its feature is, the first clip is encoded.
        """
        if self.missing not in ("raise", "nan"):
            raise RunError(f"missing {self.missing!r}: expected 'raise' or 'nan'")
        pipeline = self._pipeline()
        component = pipeline.features[self.encoder].component
        assert isinstance(component, Encoder)
        clips = _items(X)
        samples = [self._sample(clip, pipeline) for clip in clips]
        self.dim_ = component.dim or self._encoded(pipeline, samples[:1]).shape[1]
        return self

    def transform(self, X: Iterable[Clip]) -> FloatArray:
        """Return ``(samples, dim)`` float32, in the order of X; a clip twice is encoded once."""
        check_is_fitted(self, "dim_")
        pipeline = self._pipeline()
        samples = [self._sample(clip, pipeline) for clip in _items(X)]
        return self._encoded(pipeline, samples)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return ``ENCODER_0``, ``ENCODER_1``, ..."""
        check_is_fitted(self, "dim_")
        return np.array([f"{self.encoder}_{number}" for number in range(self.dim_)], object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.input_tags.allow_nan = False
        tags.no_validation = True
        return tags

    def _pipeline(self) -> Pipeline:
        """Return the pipeline of the one feature: its fingerprint is that in a registry."""
        plugins = Plugins()
        # Built alone first: its errors need no place in a registry.
        component = plugins.build(Encoder, self.encoder, dict(self.options or {}))
        needs = {name: type(spec) for name, spec in component.needs().items() if name != "id"}
        wires = {
            name: next(root for root in _MEDIA if ROOTS[root] is kind)
            for name, kind in needs.items()
        }
        use = {"uses": self.encoder, "with": self.options or {}, "inputs": wires}
        content = Content.model_validate(
            {
                "classes": ["no", "yes"],  # a registry has some; they decide nothing here
                "features": {self.encoder: use | {"dtype": self.dtype}},
            }
        )
        document = Document(Path("FeatureExtractor"), "", {}, {}, ())
        return resolve(Registry(document, content), plugins)

    def _sample(self, clip: Clip, pipeline: Pipeline) -> Sample:
        node = pipeline.features[self.encoder]
        wanted = [root for root in node.roots if root != "id"]
        if isinstance(clip, Mapping):
            given = {str(name): _medium(str(name), value) for name, value in clip.items()}
        else:
            given = {name: _medium(name, clip) for name in self._only(wanted)}
        lacking = [name for name in wanted if name not in given]
        if lacking and not (lacking == ["audio"] and "video" in given):
            raise InputError(
                f"encoder {self.encoder!r} reads {', '.join(wanted)}; found a clip with "
                f"{', '.join(given)}"
            )
        text = "\0".join(f"{name}={given[name]}" for name in sorted(given))
        # The id names a clip in the store, where it must be the same the next time.
        id = hashlib.sha256(text.encode()).hexdigest()[:24]
        return Sample(id, UNLABELLED, None, given)

    def _only(self, wanted: Sequence[str]) -> list[str]:
        """Return the medium that an item of X is."""
        if self.input is not None:
            if self.input not in _MEDIA:
                raise RunError(f"input {self.input!r}: expected one of {', '.join(_MEDIA)}")
            return [self.input]
        if len(wanted) != 1:
            example = ", ".join(f"{name!r}: ..." for name in wanted)
            raise InputError(
                f"encoder {self.encoder!r} reads {' and '.join(wanted)}; give each clip as "
                f"{{{example}}}"
            )
        return list(wanted)

    def _encoded(self, pipeline: Pipeline, samples: Sequence[Sample]) -> FloatArray:
        """Return a row a sample; those that are there several times are encoded once."""
        unique = tuple({sample.id: sample for sample in samples}.values())
        machine = Machine(self.device, self.batch)
        with ExitStack() as stack:
            place = self.store or stack.enter_context(TemporaryDirectory())
            watch = stack.enter_context(showing(Terminal() if self.progress else Silent()))
            store, manifest = Store(place), Manifest.of("clips", unique)
            extract(pipeline, manifest, store, machine, watch=watch)
            node = pipeline.features[self.encoder]
            feature = SampleFeature.of(node, store, Selection(unique, pipeline.classes))
            lost = {_name(sample): feature.missing.get(sample.id) for sample in unique}
            if self.missing == "raise":
                _check_none({name: why for name, why in lost.items() if why}, len(unique))
            table = feature.matrix("nan")
        rows = {sample.id: row for row, sample in enumerate(unique)}
        return table[[rows[sample.id] for sample in samples]]


def _items(X: Iterable[Clip]) -> list[Clip]:
    """Return the clips; a column of a table is as good as a list."""
    if isinstance(X, str | Path | Mapping):
        raise InputError(f"found one clip, {X!r}; expected a list of clips")
    if getattr(X, "ndim", 1) == 2:
        values = np.asarray(X, dtype=object)
        if values.shape[1] != 1:
            raise InputError(f"found a table of {values.shape[1]} columns, expected one of clips")
        return list(values[:, 0])
    clips = list(X)
    if not clips:
        raise InputError("no clips; expected one or more")
    return clips


def _medium(name: str, value: object) -> str:
    """Return the words, or the absolute path of a file; raises InputError for neither."""
    if name not in _MEDIA:
        raise InputError(f"unknown medium {name!r}; expected one of {', '.join(_MEDIA)}")
    if not isinstance(value, str | Path):
        expected = "words" if name == "text" else "a path"
        raise InputError(f"{name}: found {value!r}, expected {expected}")
    text = str(value)
    if name == "text" and not (text.endswith(".txt") and "\n" not in text):
        return text
    path = Path(text).absolute()
    if not path.is_file():
        raise InputError(f"{value}: {'is a folder' if path.is_dir() else 'no such file'}")
    return str(path)


def _name(sample: Sample) -> str:
    return ", ".join(sample.media.values())


def _check_none(lost: Mapping[str, str], count: int) -> None:
    if lost:
        name, why = next(iter(lost.items()))
        raise RunError(
            f"{len(lost)} of {count} clips have no feature, the first is {name!r} ({why}); mend "
            "them, leave them out, or give missing='nan'"
        )
