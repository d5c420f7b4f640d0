"""Stands in for a heavy package."""
