"""Noise, reverberation and blur for mercore: augmentation and test conditions."""

__version__ = "0.1.0"
