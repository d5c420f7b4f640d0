"""Qwen2-Audio: its config.json, and where its weights go."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel
from transformers import Qwen2AudioEncoderConfig, Qwen2Config

from mercore.nn import Rule
from mercore_qwen_jat._layout import Layout
from mercore_qwen_jat._mel import HOP
from mercore_qwen_jat._tokens import FAST


class _EncoderSection(BaseModel):
    num_mel_bins: int = 128
    d_model: int = 1280
    encoder_layers: int = 32
    encoder_attention_heads: int = 20
    encoder_ffn_dim: int = 5120
    max_source_positions: Literal[1500] = 1500
    activation_function: Literal["gelu"] = "gelu"
    scale_embedding: Literal[False] = False


class _Rope(BaseModel):
    rope_type: Literal["default"] = "default"
    rope_theta: float = 10000.0


class _TextSection(BaseModel):
    """What is absent is as transformers has it for Qwen2."""

    model_type: Literal["qwen2"] = "qwen2"
    vocab_size: int = 151936
    hidden_size: int = 4096
    intermediate_size: int = 22016
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    max_position_embeddings: int = 32768
    rms_norm_eps: float = 1e-6
    hidden_act: Literal["silu"] = "silu"
    rope_theta: float = 10000.0
    rope_scaling: None = None
    rope_parameters: _Rope | None = None
    """Where transformers 5 writes rope_theta."""
    use_sliding_window: Literal[False] = False


class Qwen2Audio(Layout):
    """Qwen2-Audio-7B and Qwen2-Audio-7B-Instruct."""

    tokenizer = FAST
    markers = False
    span = ("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>")
    heading = "Audio 1: "
    beyond = 1  # the spectrogram goes on to 30 s
    decoder_blocks = r"language_model\.model\.layers"
    encoder_blocks = r"audio_tower\.layers"
    final_norm = r"language_model\.model\.norm\.weight"
    output = r"language_model\.lm_head\.weight"

    audio_config: _EncoderSection
    text_config: _TextSection
    audio_token_index: int = 151646

    @property
    def audio(self) -> Qwen2AudioEncoderConfig:
        return Qwen2AudioEncoderConfig(**self.audio_config.model_dump())

    @property
    def depth(self) -> int:
        return self.text_config.num_hidden_layers

    @property
    def vocabulary(self) -> int:
        return self.text_config.vocab_size

    def text(self, layers: int) -> Qwen2Config:
        own = self.text_config
        rope = own.rope_parameters or _Rope(rope_theta=own.rope_theta)
        sizes = own.model_copy(update={"num_hidden_layers": layers, "rope_parameters": rope})
        return Qwen2Config(**sizes.model_dump(exclude={"model_type", "rope_theta", "rope_scaling"}))

    @property
    def longest(self) -> int:
        return self.text_config.max_position_embeddings

    @property
    def placeholder(self) -> tuple[str, int]:
        return self.span[1], self.audio_token_index

    def frames(self, samples: int) -> int:
        return (-(-samples // HOP) + 1) // 2

    def rules(self) -> list[Rule]:
        return [
            Rule(self.output, None),
            Rule(self.final_norm, "llm.norm.weight"),
            Rule(r"language_model\.model\.(.*)", r"llm.\1"),
            Rule(r"audio_tower\.(.*)", r"encoder.\1"),
            Rule(r"multi_modal_projector\.linear\.(.*)", r"projector.\1"),
        ]
