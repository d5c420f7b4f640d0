"""MossFormer2 speech separation as a denoiser for mercore."""

__version__ = "0.1.0"
