"""The encoder baichuan."""
