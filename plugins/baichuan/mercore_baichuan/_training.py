"""The network as it is trained: which weights, in which types, on which positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import LlamaModel

from mercore.nn import freed, frozen_dtype, multiplied_in, recomputing
from mercore.tuning import trained_blocks
from mercore_baichuan import BaichuanPretraining, BaichuanTuning
from mercore_baichuan._alibi import Alibi
from mercore_baichuan._network import Published


class Decoder(nn.Module):
    """From ids ``(batch, tokens)``, padding behind, to the last states ``(batch, tokens, dim)``."""

    def __init__(self, model: LlamaModel, heads: int | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype
        """The type of the weights that are not trained, and of the products if it is no float32."""
        self._heads = heads

    def forward(self, ids: Tensor) -> Tensor:
        with multiplied_in(self.dtype, ids.device):
            bias = None if self._heads is None else self._alibi(ids, self._heads)
            output = self.model(input_ids=ids, attention_mask=bias, use_cache=False)
        states: Tensor = output.last_hidden_state
        return states

    def _alibi(self, ids: Tensor, heads: int) -> Tensor:
        kind = ids.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        return Alibi(heads, dtype, str(ids.device))(ids.shape[1])


def decoder(
    found: Published, tuning: BaichuanTuning | BaichuanPretraining, blocks: int, weights: bool
) -> Decoder:
    """Return the first blocks, those open to training that the options say, in float32."""
    sizes = found.sizes
    dtype = frozen_dtype(tuning.train, tuning.precision)
    trained = trained_blocks(tuning.train, blocks)
    exact = rf"layers\.(?:{'|'.join(map(str, trained))})\..*|norm\..*" if trained else None
    norm = blocks == sizes.num_hidden_layers
    if weights:
        model = found.network(blocks, norm=norm, dtype=dtype, device="cpu", float32=exact)
    else:
        model = found.empty(blocks, norm=norm)
        model.to(dtype)  # type: ignore[arg-type]
        for number in trained:
            model.layers[number].float()
    if tuning.recompute:
        recomputing(model)
    freed(model, tuning, model.layers, attention=("q_proj", "v_proj"), behind=model.norm)
    return Decoder(model, None if sizes.rotary else sizes.num_attention_heads, dtype)
