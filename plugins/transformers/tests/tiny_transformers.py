"""Tiny networks with random weights, saved by transformers itself in the published layouts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

hf: Any = transformers  # it is typed in part only

RATE = 16_000
SIDE = 32
"""Pixels to a side of the pictures that the tiny networks read."""


def shaken(model: Any, seed: int = 0) -> Any:
    """Return the model with all its parameters moved, those that begin as 0 or 1 too."""
    numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=numbers)
            parameter.add_(0.1 * noise)
    return model.eval()


# ---- audio --------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
WAVES: dict[str, Any] = {
    **SMALL,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 8,
}
LARGE: dict[str, Any] = {
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
WHISPER: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 48,
    "vocab_size": 64,
    "num_mel_bins": 16,
    "max_source_positions": 100,
    "max_target_positions": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
CLAP_AUDIO: dict[str, Any] = {
    "hidden_size": 64,
    "patch_embeds_hidden_size": 16,
    "depths": [1, 1, 1],
    "num_attention_heads": [2, 2, 2],
    "num_hidden_layers": 3,
    "spec_size": 64,
    "num_mel_bins": 16,
    "window_size": 4,
    "patch_size": 4,
    "patch_stride": [4, 4],
    "projection_dim": 16,
}


def _wave(name: str, **changes: Any) -> Any:
    return shaken(getattr(hf, f"{name}Model")(getattr(hf, f"{name}Config")(**WAVES | changes)))


def _heard(**changes: Any) -> Any:
    return hf.Wav2Vec2FeatureExtractor(do_normalize=True, sampling_rate=RATE, **changes)


def _sew() -> Any:
    changes = {"conv_kernel": (10, 3, 3), "conv_stride": (5, 2, 2), "conv_dim": (16, 16, 16)}
    return shaken(hf.SEWModel(hf.SEWConfig(**WAVES | changes, squeeze_factor=2)))


def _ast() -> Any:
    return shaken(
        hf.ASTModel(
            hf.ASTConfig(**SMALL, num_mel_bins=16, max_length=64, frequency_stride=8, time_stride=8)
        )
    )


def _clap() -> Any:
    text = {**SMALL, "vocab_size": 50, "projection_dim": 16}
    config = hf.ClapConfig(audio_config=CLAP_AUDIO, text_config=text, projection_dim=16)
    return shaken(hf.ClapModel(config))


def _w2v_bert() -> Any:
    small = {**SMALL, "feature_projection_input_dim": 32, "conv_depthwise_kernel_size": 5}
    return shaken(hf.Wav2Vec2BertModel(hf.Wav2Vec2BertConfig(**small, vocab_size=8)))


AUDIO: Mapping[str, Callable[[], tuple[Any, Any]]] = {
    "wav2vec2": lambda: (_wave("Wav2Vec2"), _heard()),
    "wav2vec2 large": lambda: (_wave("Wav2Vec2", **LARGE), _heard(return_attention_mask=True)),
    "wavlm": lambda: (_wave("WavLM"), _heard()),
    "wavlm large": lambda: (_wave("WavLM", **LARGE), _heard(return_attention_mask=True)),
    "data2vec-audio": lambda: (
        _wave("Data2VecAudio", num_conv_pos_embeddings=2, conv_pos_kernel_size=9),
        _heard(return_attention_mask=True),
    ),
    "hubert": lambda: (_wave("Hubert"), _heard()),
    "hubert large": lambda: (_wave("Hubert", **LARGE), _heard(return_attention_mask=True)),
    "unispeech-sat large": lambda: (_wave("UniSpeechSat", **LARGE), _heard()),
    "sew": lambda: (_sew(), _heard()),
    "whisper": lambda: (
        shaken(hf.WhisperForConditionalGeneration(hf.WhisperConfig(**WHISPER))),
        hf.WhisperFeatureExtractor(feature_size=16, chunk_length=2),
    ),
    "wav2vec2-bert": lambda: (_w2v_bert(), hf.SeamlessM4TFeatureExtractor(num_mel_bins=16)),
    "ast": lambda: (_ast(), hf.ASTFeatureExtractor(num_mel_bins=16, max_length=64)),
    "clap": lambda: (
        _clap(),
        hf.ClapFeatureExtractor(
            feature_size=16, sampling_rate=48_000, max_length_s=2, truncation="rand_trunc"
        ),
    ),
}

# ---- text ---------------------------------------------------------------------------------------

WORDS = [
    *("the", "cat", "sat", "on", "a", "mat", "and", "saw", "you", "there", ","),
    *("happy", "sad", "angry", "surprised", "not", "!", "?", "你", "好"),
]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "[CLS]", "[SEP]"]
VOCABULARY = {word: place for place, word in enumerate([*SPECIAL, *WORDS])}
TEXT: dict[str, Any] = {
    **SMALL,
    "vocab_size": len(VOCABULARY),
    "max_position_embeddings": 24,
    "pad_token_id": 0,
}
DECODER: dict[str, Any] = {**TEXT, "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2}
T5: dict[str, Any] = {
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 48,
    "num_layers": 3,
    "num_heads": 2,
    "vocab_size": len(VOCABULARY),
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}


def tokenizer(*, template: str | None = "[CLS] $A [SEP]", limit: int | None = 16) -> Any:
    """Return a tokenizer of whole words, with what it puts around each text."""
    made = Tokenizer(WordLevel(VOCABULARY, unk_token="<unk>"))
    made.pre_tokenizer = BertPreTokenizer()
    if template:
        made.post_processor = TemplateProcessing(
            single=template, special_tokens=[(word, VOCABULARY[word]) for word in SPECIAL]
        )
    limits = {} if limit is None else {"model_max_length": limit}
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        cls_token="[CLS]",
        sep_token="[SEP]",
        **limits,
    )


def text_model(name: str, **changes: Any) -> Any:
    """Return a tiny network of that class name, random."""
    config = getattr(hf, name.removesuffix("Model").removesuffix("Encoder") + "Config")
    return shaken(getattr(hf, name)(config(**changes)))


_DISTIL: dict[str, Any] = {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 48}
_GPT2: dict[str, Any] = {"n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": 24}
_ENDS: dict[str, Any] = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "vocab_size": len(VOCABULARY),
}
_MODERN: dict[str, Any] = {**TEXT, "local_attention": 4, "global_attn_every_n_layers": 2}
_MODERN |= {"cls_token_id": 4, "sep_token_id": 5, "bos_token_id": 1, "eos_token_id": 2}
_DEBERTA: dict[str, Any] = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}

TEXTS: Mapping[str, Callable[[], Any]] = {
    "albert": lambda: text_model("AlbertModel", **TEXT, embedding_size=16),
    "bert": lambda: text_model("BertModel", **TEXT),
    "camembert": lambda: text_model("CamembertModel", **TEXT),
    "deberta": lambda: text_model("DebertaModel", **TEXT, **_DEBERTA, max_relative_positions=8),
    "deberta-v2": lambda: text_model(
        "DebertaV2Model",
        **TEXT,
        **_DEBERTA,
        position_buckets=4,
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        conv_kernel_size=3,
        position_biased_input=False,
    ),
    "distilbert": lambda: text_model(
        "DistilBertModel", vocab_size=len(VOCABULARY), max_position_embeddings=24, **_DISTIL
    ),
    "electra": lambda: text_model("ElectraModel", **TEXT, embedding_size=16),
    "gemma": lambda: text_model("GemmaModel", **DECODER, head_dim=16),
    "gpt2": lambda: text_model("GPT2Model", **_GPT2, **_ENDS),
    "llama": lambda: text_model("LlamaModel", **DECODER),
    "mistral": lambda: text_model("MistralModel", **DECODER, sliding_window=4),
    "modernbert": lambda: text_model("ModernBertModel", **_MODERN),
    "mpnet": lambda: text_model("MPNetModel", **TEXT | {"pad_token_id": 1}),
    "mt5": lambda: text_model("MT5EncoderModel", **T5),
    "phi3": lambda: text_model("Phi3Model", **DECODER),
    "qwen2": lambda: text_model("Qwen2Model", **DECODER),
    "qwen3": lambda: text_model("Qwen3Model", **DECODER, head_dim=16),
    "roberta": lambda: text_model("RobertaModel", **TEXT | {"pad_token_id": 0}),
    "t5": lambda: text_model("T5EncoderModel", **T5),
    "umt5": lambda: text_model("UMT5EncoderModel", **T5),
    "xlm-roberta": lambda: text_model("XLMRobertaModel", **TEXT),
}

# ---- pictures and clips -------------------------------------------------------------------------

PICTURE: dict[str, Any] = {**SMALL, "image_size": SIDE, "patch_size": 8}
_SIZE = {"height": SIDE, "width": SIDE}
_EDGE = {"shortest_edge": SIDE}


def _clip() -> tuple[Any, Any]:
    text = {**SMALL, "vocab_size": 50, "max_position_embeddings": 16}
    config = hf.CLIPConfig(vision_config=PICTURE, text_config=text, projection_dim=16)
    return shaken(hf.CLIPModel(config)), hf.CLIPImageProcessorPil(size=_EDGE, crop_size=_SIZE)


def _siglip() -> tuple[Any, Any]:
    text = {**SMALL, "vocab_size": 50, "max_position_embeddings": 16}
    config = hf.SiglipConfig(vision_config=PICTURE, text_config=text)
    return shaken(hf.SiglipModel(config)), hf.SiglipImageProcessorPil(size=_SIZE)


def _picture(name: str, processor: Any, **config: Any) -> tuple[Any, Any]:
    return shaken(getattr(hf, f"{name}Model")(getattr(hf, f"{name}Config")(**config))), processor


IMAGES: Mapping[str, Callable[[], tuple[Any, Any]]] = {
    "vit": lambda: _picture("ViT", hf.ViTImageProcessorPil(size=_SIZE), **PICTURE),
    "clip": _clip,
    "siglip": _siglip,
    "dinov2": lambda: _picture(
        "Dinov2", hf.BitImageProcessorPil(size=_EDGE, crop_size=_SIZE), **PICTURE
    ),
    "dinov2_with_registers": lambda: _picture(
        "Dinov2WithRegisters", hf.BitImageProcessorPil(size=_EDGE, crop_size=_SIZE), **PICTURE
    ),
    "convnext": lambda: _picture(
        "ConvNext",
        hf.ConvNextImageProcessorPil(size=_EDGE, crop_pct=0.9),
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 2, 1],
        image_size=SIDE,
    ),
    "swin": lambda: _picture(
        "Swin",
        hf.ViTImageProcessorPil(size=_SIZE),
        embed_dim=16,
        depths=[1, 1],
        num_heads=[2, 2],
        window_size=4,
        image_size=SIDE,
        patch_size=4,
    ),
}

VIDEOS: Mapping[str, Callable[[], tuple[Any, Any]]] = {
    "videomae": lambda: _picture(
        "VideoMAE",
        hf.VideoMAEImageProcessorPil(size=_EDGE, crop_size=_SIZE),
        **PICTURE,
        num_frames=4,
    ),
    "vivit": lambda: _picture(
        "Vivit",
        hf.VivitImageProcessor(size=_EDGE, crop_size=_SIZE),
        **SMALL,
        image_size=SIDE,
        num_frames=4,
        tubelet_size=[2, 8, 8],
    ),
    "timesformer": lambda: _picture(
        "Timesformer",
        hf.VideoMAEImageProcessorPil(size=_EDGE, crop_size=_SIZE),
        **PICTURE,
        num_frames=4,
    ),
}


@cache
def folder(modality: str, family: str) -> Path:
    """Return the folder of a tiny checkpoint, written once."""
    made = Path(tempfile.mkdtemp()) / family.replace(" ", "-")
    if modality == "text":
        TEXTS[family]().save_pretrained(made)
        tokenizer().save_pretrained(made)
        return made
    model, prepared = {"audio": AUDIO, "image": IMAGES, "video": VIDEOS}[modality][family]()
    model.save_pretrained(made)
    prepared.save_pretrained(made)
    return made
