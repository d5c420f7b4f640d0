"""Components that break one rule each, and four that break none."""

from __future__ import annotations

from mercore import Encoder, Fusion, Preprocessor, hookimpl
from mercore.components import Ensemble
from mercore_misfits import encoders as e
from mercore_misfits import ensembles as v
from mercore_misfits import fusions as f
from mercore_misfits import preprocessors as p

ENCODERS: list[type[Encoder]] = [
    e.Level,
    e.Forgetful,
    e.Lax,
    e.Unhashable,
    e.Restless,
    e.Backwards,
    e.BatchMean,
    e.Padded,
    e.Noisy,
    e.Remembers,
    e.RandomWeights,
    e.InPlace,
    e.CrashesOnNothing,
    e.NanOfNothing,
    e.Spoils,
    e.CrashesOnShort,
    e.CrashesOnLong,
    e.NeedsOptional,
    e.NumpyRecord,
    e.Double,
    e.Overflows,
    e.WrongDim,
    e.HalfOut,
    e.NoHalf,
    e.AnyDevice,
    e.Unpicklable,
    e.SharedBuffer,
    e.OneThread,
    e.Hoards,
    e.SlowBatch,
]
PREPROCESSORS: list[type[Preprocessor]] = [p.Gain, p.WrongRate, p.Stereo, p.Sorts]
FUSIONS: list[type[Fusion]] = [
    f.Centroid,
    f.Unseeded,
    f.Doubled,
    f.Ignorant,
    f.BatchCentred,
    f.MonteCarlo,
    f.ByPosition,
    f.CentresInPlace,
    f.Narrow,
    f.Pairs,
    f.NeedsValid,
    f.Shares,
    f.Blind,
    f.Unstorable,
    f.KeepsAll,
    f.TwoDevices,
]
ENSEMBLES: list[type[Ensemble]] = [
    v.Mean,
    v.FirstBranch,
    v.TieByPosition,
    v.TieByChance,
    v.Summed,
    v.Counted,
    v.ShortLabels,
    v.Drifting,
    v.SecondBest,
    v.ScalesInPlace,
]


@hookimpl
def preprocessors() -> list[type[Preprocessor]]:
    return PREPROCESSORS


@hookimpl
def encoders() -> list[type[Encoder]]:
    return ENCODERS


@hookimpl
def fusions() -> list[type[Fusion]]:
    return FUSIONS


@hookimpl
def ensembles() -> list[type[Ensemble]]:
    return ENSEMBLES
