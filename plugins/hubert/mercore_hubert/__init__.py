"""The encoder hubert."""
