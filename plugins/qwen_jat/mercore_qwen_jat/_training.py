"""The network as it is trained: which weights, in which types, and what goes in and out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mercore.nn import (
    Checkpoint,
    HiddenStates,
    Rule,
    built,
    fill,
    freed,
    frozen_dtype,
    multiplied_in,
    recomputing,
)
from mercore.tuning import trained_blocks
from mercore_qwen_jat import QwenTuning
from mercore_qwen_jat._answers import Answers
from mercore_qwen_jat._files import Published
from mercore_qwen_jat._tower import JointModel


class Network(nn.Module):
    """From a batch, padding behind, to the last states ``(samples, tokens, hidden)``.

    `mel` is ``(samples, bins, time)``; `frames`, ``(samples, longest)``, says which frames belong
    to a clip; `ids` and `places` are ``(samples, tokens)``, see ``JointModel``. Attention is
    causal, or to what `mask` says, ``(samples, 1, tokens, tokens)``.
    """

    def __init__(self, model: JointModel, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype
        """The type of the weights that are not trained."""

    def forward(
        self,
        mel: Tensor,
        frames: Tensor,
        ids: Tensor,
        places: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        given: Any = {"full_attention": mask}
        with multiplied_in(self.dtype, ids.device):
            heard = self.model.rows(mel, frames.shape[1], frames)
            output = self.model.llm(
                inputs_embeds=self.model.joined(ids, places, heard),
                attention_mask=given,
                position_ids=positions,
                use_cache=False,
            )
        states: Tensor = output.last_hidden_state
        return states


class Classifier(nn.Module):
    """From a batch to ``{"logits": (samples, classes)}``: a layer on the mean of some rows."""

    def __init__(self, network: Network, states: HiddenStates, classes: int) -> None:
        super().__init__()
        self.network = network
        self.head = nn.Linear(network.model.llm.config.hidden_size, classes)
        self._states = states

    def forward(self, counts: Tensor, **batch: Tensor) -> dict[str, Tensor]:
        self.network(**batch)
        share = counts / counts.sum(1, keepdim=True).clamp(min=1)  # no row: zeros
        pooled = (self._states.take() * share[..., None]).sum(1)  # (samples, hidden)
        return {"logits": self.head(pooled)}


class Answerer(nn.Module):
    """From a batch to ``{"logits": (samples, classes)}``: log probabilities of whole answers.

    All answers stand behind the prompt of a sample, each at the positions that follow it, and none
    sees the others: one run gives what a run for each would.
    """

    where: Tensor
    tokens: Tensor
    classes: Tensor

    def __init__(self, network: Network, lm_head: nn.Linear, answers: Answers) -> None:
        super().__init__()
        self.network = network
        self.lm_head = lm_head
        self._answers = answers
        for name, numbers in answers.predicted().items():
            self.register_buffer(name, torch.tensor(numbers), persistent=False)

    def forward(self, groups: Tensor, lengths: Tensor, **batch: Tensor) -> dict[str, Tensor]:
        states = self.network(mask=_seen(groups), **batch)
        behind = torch.arange(1 + len(self._answers.ids), device=lengths.device)
        at = (lengths - 1)[:, None] + behind  # the end of the prompt, and all that is behind it
        read = states.gather(1, at[..., None].expand(-1, -1, states.shape[-1]))
        with multiplied_in(self.network.dtype, read.device):
            scores = self.lm_head(read).float().log_softmax(-1)  # (samples, 1 + ids, vocabulary)
        found = scores[:, self.where, self.tokens]  # (samples, tokens of all answers)
        zeros = found.new_zeros(len(found), len(self._answers.words))
        return {"logits": zeros.index_add(1, self.classes, found)}


def _seen(groups: Tensor) -> Tensor:
    """Return what each token sees, ``(samples, 1, tokens, tokens)``: the prompt and its answer."""
    query, key = groups[:, :, None], groups[:, None]
    places = torch.arange(groups.shape[1], device=groups.device)
    seen = ((key == 0) | (key == query)) & (places[:, None] >= places)
    return seen[:, None]


def network_of(found: Published, tuning: QwenTuning, layers: int, weights: bool) -> Network:
    """Return the first layers, those open to training that the options say, in float32."""
    dtype = frozen_dtype(tuning.train, tuning.precision)
    trained = trained_blocks(tuning.train, layers)
    exact = rf"llm\.(?:layers\.(?:{'|'.join(map(str, trained))})|norm)\..*" if trained else None
    if weights:
        model = found.filled(layers, dtype=dtype, device="cpu", float32=exact)
    else:
        model = found.empty(layers).to(dtype)
        for number in trained:
            model.llm.layers[number].float()
    llm = model.llm
    freed(model, tuning, llm.layers, attention=("q_proj", "v_proj"), behind=llm.norm)
    model.encoder.embed_positions.requires_grad_(False)  # computed, not learnt
    if not tuning.audio:
        for part in (model.encoder, model.projector, model.markers):
            if part is not None:
                part.requires_grad_(False)
    if tuning.recompute:
        for stack in (llm, model.encoder):
            recomputing(stack)
    return Network(model, dtype)


def lm_head_of(found: Published, network: Network, tuning: QwenTuning, weights: bool) -> nn.Linear:
    """Return the output layer; it is trained where all is."""
    rows, width = found.layout.vocabulary, network.model.llm.config.hidden_size
    # In a module, so that a message about its weights has its name.
    model = built(lambda: nn.ModuleDict({"lm_head": nn.Linear(width, rows, bias=False)}))
    if weights:
        rules = [Rule(found.layout.output, "lm_head.weight"), Rule(".*", None)]
        fill(model, Checkpoint(found.folder), rules, dtype=network.dtype, device="cpu")
    lm_head = model["lm_head"].to(network.dtype).requires_grad_(tuning.train == "all")
    assert isinstance(lm_head, nn.Linear)
    return lm_head
