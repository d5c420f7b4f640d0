from __future__ import annotations

import numpy as np
import pytest
import torch
from network_checks import check, drawn
from pydantic import ValidationError
from torch import Tensor, nn

from mercore import Labelled
from mercore.testing import FusionTests
from mercore_fusions import Mult
from mercore_fusions._mult import positions

SMALL = Mult(hidden=8, heads=2, layers=2, kernel=3, frames=6, epochs=8, batch=16, lr=5e-3)
DIMS = {"hubert": 7, "vit": 5, "text": 6}


def sequences(dims: dict[str, int]) -> dict[str, Tensor]:
    """Return four samples of one to six frames for two networks, with rows of NaN behind them."""
    generator, found = torch.Generator().manual_seed(2), {}
    for place, (name, dim) in enumerate(dims.items()):
        found[name] = torch.randn(2, 4, 6, dim, generator=generator, dtype=torch.float64)
        for sample, frames in enumerate(np.roll([6, 3, 1, 5], place)):
            found[name][:, sample, frames:] = torch.nan
    return found


class Layers(nn.Module):
    """Equation (4) from torch's own modules."""

    def __init__(self, weights: dict[str, Tensor], prefix: str, heads: int) -> None:
        super().__init__()
        self.weights, self.prefix, self.heads = weights, prefix, heads

    def layer(self, number: int) -> tuple[nn.MultiheadAttention, nn.Linear, nn.Linear]:
        parts = {
            name.removeprefix(f"{self.prefix}.{number}."): weight
            for name, weight in self.weights.items()
            if name.startswith(f"{self.prefix}.{number}.")
        }
        width = len(parts["join.bias"])
        attention = nn.MultiheadAttention(width, self.heads, batch_first=True).double()
        attention.load_state_dict(
            {
                f"in_proj_{kind}": torch.cat(
                    [parts[f"{name}.{kind}"] for name in ("query", "key", "value")]
                )
                for kind in ("weight", "bias")
            }
            | {f"out_proj.{kind}": parts[f"join.{kind}"] for kind in ("weight", "bias")}
        )
        up, down = nn.Linear(width, 4 * width).double(), nn.Linear(4 * width, width).double()
        for name, linear in (("up", up), ("down", down)):
            linear.load_state_dict({k: parts[f"{name}.{k}"] for k in ("weight", "bias")})
        return attention, up, down

    def forward(self, own: Tensor, other: Tensor | None) -> Tensor:
        """Return one sample's ``(frames, width)``."""
        norm, z = nn.LayerNorm(own.shape[1], elementwise_affine=False), own
        for number in range(2):
            attention, up, down = self.layer(number)
            source = norm(z) if other is None else norm(other)
            z = attention(norm(z)[None], source[None], source[None])[0][0] + norm(z)
            z = down(torch.relu(up(norm(z)))) + norm(z)
        return z


def of_one(weights: dict[str, Tensor], sample: dict[str, Tensor]) -> Tensor:
    """Return ``(classes,)`` of one sample, whose sequences hold no NaN."""
    z, last = {}, []
    for name, x in sample.items():
        convolution = nn.Conv1d(x.shape[1], 8, 3, padding=1).double()
        kernel = weights[f"project.{name}.weight"].view(3, 8, -1).permute(1, 2, 0)
        convolution.load_state_dict({"weight": kernel, "bias": weights[f"project.{name}.bias"]})
        z[name] = convolution(x.T).T + positions(len(x), 8).double()
    for name, own in z.items():
        heard = [
            Layers(weights, f"cross.{name}.{other}", 2)(own, frames)
            for other, frames in z.items()
            if other != name
        ]
        joint = torch.cat(heard or [own], dim=1)
        last.append(Layers(weights, f"self.{name}", 2)(joint, None)[-1])
    x = torch.relu(torch.cat(last) @ weights["hidden.0.weight"].T + weights["hidden.0.bias"])
    return x @ weights["classify.weight"].T + weights["classify.bias"]


def reference(weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
    return torch.stack(
        [
            of_one(weights, {n: x[number][~x[number, :, 0].isnan()] for n, x in inputs.items()})
            for number in range(4)
        ]
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_network_is_the_one_described_whatever_the_lengths(count: int) -> None:
    dims = dict(list(DIMS.items())[:count])
    check(SMALL, sequences(dims), reference, dead=["key.bias"])  # attention to all moves alike


def test_nothing_attends_to_a_feature_that_a_sample_lacks() -> None:
    weights, inputs = drawn(SMALL, DIMS), sequences(DIMS)
    inputs["vit"][:, 1] = torch.nan
    inputs["text"][:, 2] = inputs["hubert"][:, 2] = inputs["vit"][:, 2] = torch.nan
    network = SMALL.network()
    found = network.logits(weights, inputs, lambda x: x)
    assert found.isfinite().all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(found.sum(), [*weights.values()]))
    changed = {name: -w if name.startswith("project.vit") else w for name, w in weights.items()}
    again = network.logits(changed, inputs, lambda x: x)
    torch.testing.assert_close(again[:, 1:3], found[:, 1:3], atol=0, rtol=0)
    assert not torch.isclose(again[:, 0], found[:, 0]).any()


def test_positions_are_those_of_the_transformer() -> None:
    found = positions(5, 7)
    for frame in range(5):
        for place in range(7):
            angle = frame / 10_000 ** (2 * (place // 2) / 7)
            value = np.cos(angle) if place % 2 else np.sin(angle)
            assert float(found[frame, place]) == pytest.approx(value, abs=1e-6)


def test_it_learns_what_only_the_order_of_frames_tells() -> None:
    """Two classes have the same frames, forwards and backwards: their means are equal."""
    noise = np.random.default_rng(0)

    def data(samples: int) -> Labelled:
        labels = noise.integers(2, size=samples)
        ramp = np.linspace(-2, 2, 6)[None, :, None] * np.where(labels, 1, -1)[:, None, None]
        x = (ramp + 0.3 * noise.normal(size=(samples, 6, 3))).astype(np.float32)
        x[::5, 4:] = np.nan
        return Labelled({"hubert": x, "vit": x[:, ::2].copy()}, labels)

    train, test = data(64), data(40)
    weights = SMALL.fit(train, data(20), classes=2, device="cpu", seed=0)
    found = SMALL.load(weights, "cpu")(test.features).argmax(axis=1)
    assert (found == test.labels).mean() > 0.9


def test_options_that_do_not_fit_are_refused_all_at_once() -> None:
    message = r"hidden=8 is no multiple of heads=3; kernel=2: expected an odd number"
    with pytest.raises(ValidationError, match=message):
        Mult(hidden=8, heads=3, kernel=2)
    assert SMALL.most_frames == 6


class TestMult(FusionTests):
    component = Mult(hidden=8, heads=2, layers=1, frames=3, epochs=6, lr=2e-2, mask=True)
    least = 0.8
