"""Tiny Paraformers with random weights, in the layout of ModelScope's repositories.

Every name is written by hand from the published files; no library that reads them is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Tensors = dict[str, torch.Tensor]

CHARACTERS = tuple("今天气真好我们去学校了你是谁不知道这那里0123456789")
WORDS = ("hello", "world", "the", "a", "b", "c", "ok", "'s")
PIECES = ("hel@@", "lo", "wor@@", "ld", "in@@", "g")
NO_BIAS = "零"
TOKENS = ("<blank>", "<s>", "</s>", *CHARACTERS, *WORDS, *PIECES, NO_BIAS, "<unk>")
MELS, STACKED = 80, 7
KERNEL = 11


@dataclass(frozen=True)
class Sizes:
    """How large a network is."""

    width: int = 16
    heads: int = 2
    ffn: int = 24
    blocks: int = 3
    layers: int = 2
    tokens: Sequence[str] = TOKENS


TINY = Sizes()


def config(sizes: Sizes = TINY, *, seaco: bool = False, **changes: Any) -> dict[str, Any]:
    """Return config.yaml with the keys of the published one that say what the network is."""
    dropouts = {"dropout_rate": 0.1, "positional_dropout_rate": 0.1}
    attention = {"self_attention_dropout_rate": 0.1, "src_attention_dropout_rate": 0.1}
    told: dict[str, Any] = {
        "model": "SeacoParaformer" if seaco else "Paraformer",
        "model_conf": {
            "ctc_weight": 0.0,
            "lsm_weight": 0.1,
            "length_normalized_loss": True,
            "predictor_weight": 1.0,
            "predictor_bias": 1,
            "sampling_ratio": 0.75,
        },
        "encoder": "SANMEncoder",
        "encoder_conf": {
            "output_size": sizes.width,
            "attention_heads": sizes.heads,
            "linear_units": sizes.ffn,
            "num_blocks": sizes.blocks,
            **dropouts,
            "attention_dropout_rate": 0.1,
            "input_layer": "pe",
            "pos_enc_class": "SinusoidalPositionEncoder",
            "normalize_before": True,
            "kernel_size": KERNEL,
            "sanm_shfit": 0,
            "selfattention_layer_type": "sanm",
        },
        "decoder": "ParaformerSANMDecoder",
        "decoder_conf": {
            "attention_heads": sizes.heads,
            "linear_units": sizes.ffn,
            "num_blocks": sizes.layers,
            **dropouts,
            **attention,
            "att_layer_num": sizes.layers,
            "kernel_size": KERNEL,
            "sanm_shfit": 0,
        },
        "predictor": "CifPredictorV2",
        "predictor_conf": {
            "idim": sizes.width,
            "threshold": 1.0,
            "l_order": 1,
            "r_order": 1,
            "tail_threshold": 0.45,
        },
        # No dither, as published: funasr's default is then 1.
        "frontend": "WavFrontend",
        "frontend_conf": {
            "fs": 16000,
            "window": "hamming",
            "n_mels": MELS,
            "frame_length": 25,
            "frame_shift": 10,
            "lfr_m": STACKED,
            "lfr_n": 6,
        },
        "specaug": "SpecAugLFR",
        "specaug_conf": {
            "apply_time_warp": False,
            "apply_freq_mask": True,
            "freq_mask_width_range": [0, 30],
            "lfr_rate": 6,
            "num_freq_mask": 1,
            "apply_time_mask": True,
            "time_mask_width_range": [0, 12],
            "num_time_mask": 1,
        },
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
        "input_size": MELS * STACKED,
        "ctc_conf": {"dropout_rate": 0.0, "ctc_type": "builtin"},
        "normalize": None,
    }
    if seaco:
        told["model_conf"] |= {
            "inner_dim": sizes.width,
            "bias_encoder_type": "lstm",
            "bias_encoder_bid": False,
            "seaco_lsm_weight": 0.1,
            "train_decoder": False,
            "NO_BIAS": list(sizes.tokens).index(NO_BIAS),
        }
        told["seaco_decoder"] = "ParaformerSANMDecoder"
        told["seaco_decoder_conf"] = {
            "attention_heads": sizes.heads,
            "linear_units": sizes.ffn,
            "num_blocks": 4,
            **dropouts,
            **attention,
            "kernel_size": 21,
            "sanm_shfit": 0,
            "use_output_layer": False,
            "wo_input_layer": True,
        }
        told["predictor"] = "CifPredictorV3"
        told["predictor_conf"] |= {
            "smooth_factor2": 0.25,
            "noise_threshold2": 0.01,
            "upsample_times": 3,
            "use_cif1_cnn": False,
            "upsample_type": "cnn_blstm",
        }
    return {**told, **changes}


class Weights:
    """Random weights under the names that they are published with."""

    def __init__(self, sizes: Sizes = TINY, *, seaco: bool = False, seed: int = 0) -> None:
        self._numbers = torch.Generator().manual_seed(seed)
        self.found: Tensors = {}
        width, vocabulary = sizes.width, len(sizes.tokens)
        self._encoder(sizes)
        self.random("predictor.cif_conv1d.weight", width, width, 3, scale=(3 * width) ** -0.5)
        self.random("predictor.cif_conv1d.bias", width, scale=0.1)
        self.linear("predictor.cif_output", 1, width, scale=1.0)
        self.found["predictor.cif_output.bias"] -= 1.0  # about 4 tokens a second
        self.random("decoder.embed.0.weight", vocabulary, width)
        self._decoder("decoder", sizes, sizes.layers, KERNEL)
        self.linear("decoder.output_layer", vocabulary, width)
        if seaco:
            self._seaco(sizes)

    def random(self, name: str, *shape: int, scale: float = 1.0) -> None:
        """Add a tensor."""
        self.found[name] = torch.randn(*shape, generator=self._numbers) * scale

    def linear(
        self, name: str, out: int, into: int, *, bias: bool = True, scale: float = 2.0
    ) -> None:
        """Add a matrix, and its bias."""
        self.random(f"{name}.weight", out, into, scale=scale * into**-0.5)
        if bias:
            self.random(f"{name}.bias", out, scale=0.1)

    def norm(self, name: str, width: int) -> None:
        """Add a layer norm."""
        self.random(f"{name}.weight", width, scale=0.2)
        self.found[f"{name}.weight"] += 1
        self.random(f"{name}.bias", width, scale=0.2)

    def _encoder(self, sizes: Sizes) -> None:
        width = sizes.width
        names = ["encoders0.0", *(f"encoders.{block}" for block in range(sizes.blocks - 1))]
        for name in (f"encoder.{name}" for name in names):
            into = MELS * STACKED if "encoders0" in name else width
            self.linear(f"{name}.self_attn.linear_q_k_v", 3 * width, into)
            self.linear(f"{name}.self_attn.linear_out", width, width)
            self.random(f"{name}.self_attn.fsmn_block.weight", width, 1, KERNEL, scale=KERNEL**-0.5)
            self.linear(f"{name}.feed_forward.w_1", sizes.ffn, width)
            self.linear(f"{name}.feed_forward.w_2", width, sizes.ffn)
            self.norm(f"{name}.norm1", into)
            self.norm(f"{name}.norm2", width)
        self.norm("encoder.after_norm", width)

    def _decoder(self, name: str, sizes: Sizes, layers: int, kernel: int) -> None:
        width = sizes.width
        for layer in (f"{name}.decoders.{number}" for number in range(layers)):
            self._feed_forward(layer, sizes)
            self.random(f"{layer}.self_attn.fsmn_block.weight", width, 1, kernel, scale=0.3)
            self.linear(f"{layer}.src_attn.linear_q", width, width)
            self.linear(f"{layer}.src_attn.linear_k_v", 2 * width, width)
            self.linear(f"{layer}.src_attn.linear_out", width, width)
            self.norm(f"{layer}.norm2", width)
            self.norm(f"{layer}.norm3", width)
        self._feed_forward(f"{name}.decoders3.0", sizes)
        self.norm(f"{name}.after_norm", width)

    def _feed_forward(self, name: str, sizes: Sizes) -> None:
        self.linear(f"{name}.feed_forward.w_1", sizes.ffn, sizes.width)
        self.linear(f"{name}.feed_forward.w_2", sizes.width, sizes.ffn, bias=False)
        self.norm(f"{name}.feed_forward.norm", sizes.ffn)
        self.norm(f"{name}.norm1", sizes.width)

    def _seaco(self, sizes: Sizes) -> None:
        width = sizes.width
        for part in ("l0", "l1"):
            self._lstm("bias_encoder", part, width)
        self._decoder("seaco_decoder", sizes, 6, 21)
        self.linear("hotword_output_layer", len(sizes.tokens), width)
        self.random("predictor.upsample_cnn.weight", width, width, 3, scale=width**-0.5)
        self.random("predictor.upsample_cnn.bias", width, scale=0.1)
        for part in ("l0", "l0_reverse"):
            self._lstm("predictor.blstm", part, width)
        self.linear("predictor.cif_output2", 1, 2 * width)

    def _lstm(self, name: str, part: str, width: int) -> None:
        for side in ("ih", "hh"):
            self.random(f"{name}.weight_{side}_{part}", 4 * width, width, scale=width**-0.5)
            self.random(f"{name}.bias_{side}_{part}", 4 * width, scale=0.1)


def write(
    folder: Path,
    *,
    sizes: Sizes = TINY,
    seaco: bool = False,
    weights: Mapping[str, Any] | None = None,
    configuration: bool = True,
    seed: int = 0,
    **changes: Any,
) -> Path:
    """Write a checkpoint into `folder`; `changes` are of config.yaml. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    # JSON is YAML.
    told = json.dumps(config(sizes, seaco=seaco, **changes), indent=2)
    (folder / "config.yaml").write_text(told)
    torch.save(weights or Weights(sizes, seaco=seaco, seed=seed).found, folder / "model.pt")
    (folder / "tokens.json").write_text(json.dumps(list(sizes.tokens), ensure_ascii=False))
    lines = [f"{word} {word}" for word in (*CHARACTERS, *WORDS)]
    lines += ["hello hel@@ lo", "world wor@@ ld", "ing in@@ g"]
    (folder / "seg_dict").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "am.mvn").write_text(_cmvn())
    if configuration:
        metas = {
            "init_param": "model.pt",
            "config": "config.yaml",
            "tokenizer_conf": {"token_list": "tokens.json", "seg_dict_file": "seg_dict"},
            "frontend_conf": {"cmvn_file": "am.mvn"},
        }
        about = {
            "framework": "pytorch",
            "task": "auto-speech-recognition",
            "model": {"type": "funasr"},
            "pipeline": {"type": "funasr-pipeline"},
            "file_path_metas": metas,
        }
        (folder / "configuration.json").write_text(json.dumps(about, indent=2))
    return folder


def _cmvn() -> str:
    """Return am.mvn, as Kaldi writes networks: shifts, then scales."""
    size = MELS * STACKED
    shifts = " ".join(f"{-8.0 - 4 * (place % MELS) / MELS:.6f}" for place in range(size))
    scales = " ".join(f"{0.15 + 0.1 * (place % MELS) / MELS:.6f}" for place in range(size))
    return (
        f"<Nnet>\n<Splice> {size} {size}\n[ 0 ]\n"
        f"<AddShift> {size} {size}\n<LearnRateCoef> 0 [ {shifts} ]\n"
        f"<Rescale> {size} {size}\n<LearnRateCoef> 0 [ {scales} ]\n</Nnet>\n"
    )


def write_onnx(folder: Path, *, quantised: bool = False) -> Path:
    """Add to the checkpoint in `folder` the network as FunASR exports it; returns its file."""
    from mercore_paraformer._funasr import undisturbed

    with undisturbed():
        from funasr import AutoModel

        quiet = {"disable_update": True, "check_latest": False, "disable_pbar": True, "ncpu": 1}
        told = AutoModel(model=str(folder), device="cpu", **quiet)
        settings = {name: told.kwargs[name] for name in ("encoder", "predictor", "decoder")}
        network = told.model.export(**settings, type="onnx", device="cpu", max_seq_len=512)
        file = folder / "model.onnx"
        torch.onnx.export(
            network.eval(),
            network.export_dummy_inputs(),
            str(file),
            input_names=network.export_input_names(),
            output_names=network.export_output_names(),
            dynamic_axes=network.export_dynamic_axes(),
            opset_version=14,
            dynamo=False,
        )
        if not quantised:
            return file
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quant = folder / "model_quant.onnx"
        quantize_dynamic(file, quant, weight_type=QuantType.QUInt8, op_types_to_quantize=["MatMul"])
        return quant
