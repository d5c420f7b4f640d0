"""The encoder vit_mae."""
