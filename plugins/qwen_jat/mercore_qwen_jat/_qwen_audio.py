"""Qwen-Audio: its config.json, and where its weights go."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator
from transformers import Qwen2AudioEncoderConfig, Qwen2Config

from mercore.nn import Rule
from mercore_qwen_jat._layout import Layout
from mercore_qwen_jat._mel import HOP
from mercore_qwen_jat._tokens import TIKTOKEN


class _AudioSection(BaseModel):
    n_mels: int = 80
    n_ctx: Literal[1500] = 1500
    n_state: int = 1280
    n_head: int = 20
    n_layer: int = 32
    output_dim: int = 4096
    avg_pool: Literal[True] = True
    add_audio_bos_eos_token: Literal[True] = True
    audio_start_id: int = 155163


class QwenAudio(Layout):
    """Qwen-Audio and Qwen-Audio-Chat."""

    tokenizer = TIKTOKEN
    markers = True
    span = ("<audio>", "[[[AUDIO:modality]]]", "</audio>")
    heading = "Audio 1:"
    beyond = 0  # the spectrogram is cut to the clip
    decoder_blocks = r"transformer\.h"
    encoder_blocks = r"transformer\.audio\.blocks"
    final_norm = r"transformer\.ln_f\.weight"
    output = r"lm_head\.weight"

    hidden_size: int = 4096
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    intermediate_size: int = 22016
    """Of gate and input together."""
    kv_channels: int = 128
    layer_norm_epsilon: float = 1e-5
    rotary_emb_base: float = 10000.0
    rotary_pct: float = Field(default=1.0, ge=1, le=1)
    no_bias: Literal[True] = True
    seq_length: int = 2048
    vocab_size: int = 155947
    section: _AudioSection = Field(alias="audio")

    @model_validator(mode="after")
    def _fits(self) -> QwenAudio:
        if self.kv_channels * self.num_attention_heads != self.hidden_size:
            raise ValueError("kv_channels times num_attention_heads is not hidden_size")
        if self.section.output_dim != self.hidden_size:
            raise ValueError("audio.output_dim is not hidden_size")
        return self

    @property
    def audio(self) -> Qwen2AudioEncoderConfig:
        return Qwen2AudioEncoderConfig(
            num_mel_bins=self.section.n_mels,
            d_model=self.section.n_state,
            encoder_layers=self.section.n_layer,
            encoder_attention_heads=self.section.n_head,
            encoder_ffn_dim=4 * self.section.n_state,
        )

    @property
    def depth(self) -> int:
        return self.num_hidden_layers

    @property
    def vocabulary(self) -> int:
        return self.vocab_size

    def text(self, layers: int) -> Qwen2Config:
        return Qwen2Config(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size // 2,
            num_hidden_layers=layers,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_attention_heads,
            max_position_embeddings=self.seq_length,
            rms_norm_eps=self.layer_norm_epsilon,
            rope_parameters={"rope_type": "default", "rope_theta": self.rotary_emb_base},
        )

    @property
    def longest(self) -> int:
        return self.seq_length

    @property
    def placeholder(self) -> tuple[str, int]:
        return self.span[0], self.section.audio_start_id

    def frames(self, samples: int) -> int:
        return (samples // HOP + 1) // 2

    def rules(self) -> list[Rule]:
        audio = r"transformer\.audio\."
        block, to = rf"{audio}blocks\.(\d+)\.", r"encoder.layers.\1."
        names = {"query": "q", "key": "k", "value": "v", "out": "out"}
        return [
            Rule(self.output, None),
            Rule(r"transformer\.wte\.(.*)", r"llm.embed_tokens.\1"),
            Rule(self.final_norm, "llm.norm.weight"),
            *_decoder_rules(),
            Rule(rf"{audio}(conv[12]\..*)", r"encoder.\1"),
            Rule(rf"{audio}positional_embedding", "encoder.embed_positions.weight"),
            Rule(rf"{audio}ln_post\.(.*)", r"encoder.layer_norm.\1"),
            Rule(rf"{audio}proj\.(.*)", r"projector.\1"),
            Rule(rf"{audio}audio_bos_eos_token\.(.*)", r"markers.\1"),
            *(
                Rule(rf"{block}attn\.{name}\.(.*)", rf"{to}self_attn.{own}_proj.\2")
                for name, own in names.items()
            ),
            Rule(rf"{block}attn_ln\.(.*)", rf"{to}self_attn_layer_norm.\2"),
            Rule(rf"{block}mlp\.0\.(.*)", rf"{to}fc1.\2"),
            Rule(rf"{block}mlp\.2\.(.*)", rf"{to}fc2.\2"),
            Rule(rf"{block}mlp_ln\.(.*)", rf"{to}final_layer_norm.\2"),
        ]


def _decoder_rules() -> list[Rule]:
    block, to = r"transformer\.h\.(\d+)\.", r"llm.layers.\1."
    parts = tuple(rf"{to}self_attn.{part}_proj.\2" for part in "qkv")
    return [
        Rule(rf"{block}attn\.c_attn\.(.*)", parts),
        Rule(rf"{block}attn\.c_proj\.(.*)", rf"{to}self_attn.o_proj.\2"),
        Rule(rf"{block}ln_1\.(.*)", rf"{to}input_layernorm.\2"),
        Rule(rf"{block}ln_2\.(.*)", rf"{to}post_attention_layernorm.\2"),
        # c_proj(w1(x) * silu(w2(x)))
        Rule(rf"{block}mlp\.w1\.(.*)", rf"{to}mlp.up_proj.\2"),
        Rule(rf"{block}mlp\.w2\.(.*)", rf"{to}mlp.gate_proj.\2"),
        Rule(rf"{block}mlp\.c_proj\.(.*)", rf"{to}mlp.down_proj.\2"),
    ]
