"""Paraformer speech recognition, n-gram language models and CT-Transformer punctuation for mercore."""

__version__ = "0.1.0"
