"""The encoder qwen_jat."""
