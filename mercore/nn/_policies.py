"""What is trained of a network, as the options of ``mercore.tuning.Policy`` say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from mercore.nn._devices import dtype_of
from mercore.packages import needed
from mercore.tuning import Group, Policy, trained_blocks

_ADDED = ".lora_"  # in the names of what peft adds
_BASE = ".base_layer."  # in those of what it is added to


def freed(
    network: nn.Module,
    policy: Policy,
    blocks: nn.ModuleList,
    *,
    attention: Sequence[str],
    behind: nn.Module | None = None,
) -> None:
    """Let those parameters of `network` require a gradient, and no others, that are trained.

    `blocks` are part of it, `behind` what is trained with the last of them. LoRA adds its matrices
    to those linear layers of the blocks whose names end in one of `attention`, or to all. Raises
    RunError for blocks that are not there, and without peft.
    """
    network.requires_grad_(policy.train == "all")
    if policy.train == "lora":
        _add_lora(blocks, policy, attention)
        return
    trained = trained_blocks(policy.train, len(blocks))
    for number in trained:
        blocks[number].requires_grad_(True)
    if behind is not None and len(blocks) - 1 in trained:
        behind.requires_grad_(True)


def _add_lora(blocks: nn.ModuleList, policy: Policy, attention: Sequence[str]) -> None:
    peft = needed("peft", "`train: lora`", "run `pip install 'mercore[tune]'`")
    every = [name for name, part in blocks.named_modules() if isinstance(part, nn.Linear)]
    own = [name for name in every if name.endswith(tuple(attention))]
    config = peft.LoraConfig(
        r=policy.lora_rank,
        lora_alpha=policy.lora_alpha,
        lora_dropout=policy.lora_dropout,
        target_modules=every if policy.lora_layers == "all" else own,
    )
    peft.inject_adapter_in_model(config, blocks)
    for name, parameter in blocks.named_parameters():
        if _ADDED in name:
            parameter.data = parameter.data.float()


def rated(module: nn.Module, policy: Policy, *, new: Sequence[str] = ("head",)) -> list[Group]:
    """Return the parameters to train: new ones at the whole learning rate, others as it says.

    New are those whose names begin with one of `new`, and what LoRA adds. Only matrices decay.
    """
    parts: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            fresh = name.startswith(tuple(new)) or _ADDED in name
            parts.setdefault((fresh, parameter.dim() > 1), []).append(parameter)
    return [
        Group(parameters, 1.0 if fresh else policy.pretrained_rate, decays)
        for (fresh, decays), parameters in parts.items()
    ]


def merged(tensors: Mapping[str, Tensor], policy: Policy) -> dict[str, Tensor]:
    """Return a state dict with what LoRA added made part of its matrices, under their own names."""
    scale = policy.lora_alpha / policy.lora_rank
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if _ADDED in name:
            continue
        own = name.replace(_BASE, ".")
        found[own] = tensor
        if own != name and own.endswith(".weight"):
            stem = own.removesuffix(".weight")
            out, into = (tensors[f"{stem}.lora_{part}.default.weight"].float() for part in "BA")
            found[own] = tensor.float() + scale * out @ into
    return found


def frozen_dtype(train: str, precision: str) -> torch.dtype:
    """Return the type of the weights that are not trained: the one they are multiplied in.

    Those that are trained stay float32 whatever they are multiplied in, as steps smaller than a
    256th of a weight would be lost in bfloat16.
    """
    if train == "all":
        return torch.float32
    if precision == "auto":
        able = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if able else torch.float32
    return dtype_of(precision)


def multiplied_in(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which weights of float32 and of `dtype` can be multiplied."""
    if dtype == torch.float32:
        return nullcontext()  # a precision from outside stays
    return torch.autocast(device.type, dtype)


def recomputing(model: Any) -> None:
    """Let a network of transformers compute activations again in the backward pass."""
    # The first name is that of version 6; the second one warns since 5.23.
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
