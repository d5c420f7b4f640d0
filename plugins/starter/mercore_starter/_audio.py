"""What every component that reads audio asks for."""

RATE = 16_000
"""Samples a second (Hz)."""
