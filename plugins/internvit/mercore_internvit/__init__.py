"""The encoder internvit."""
