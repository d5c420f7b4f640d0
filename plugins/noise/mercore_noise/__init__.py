"""Noise, reverberation and blur for mercore: augmentation and test conditions."""

from mercore import Preprocessor, hookimpl
from mercore_noise.add_noise import AddNoise, Mixture
from mercore_noise.blur import Blur

__version__ = "0.1.0"

__all__ = ["AddNoise", "Blur", "Mixture"]


@hookimpl
def preprocessors() -> list[type[Preprocessor]]:
    """Return what makes clips worse: noise for the ear, blur for the eye."""
    return [AddNoise, Blur]
