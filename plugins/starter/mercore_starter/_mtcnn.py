"""MTCNN: three small networks, each looking closer at what the one before it proposed.

Source: Zhang et al. 2016, "Joint face detection and alignment using multitask cascaded
convolutional networks" (the P-, R- and O-net of section II and figure 2); weights of
facenet-pytorch 2.6.0 (MIT). Boxes are ``(left, top, right, bottom)`` and points ``(x, y)``, in
pixels from the upper left corner of the frame; pixel 0 covers 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from mercore.errors import CheckpointError

CELL, STRIDE = 12, 2  # the P-net sees 12 x 12 pixels, every second pixel
SHRINK = 0.709  # from level to level of the pyramid, about half the area
LEVEL_SLOTS, FRAME_SLOTS, FINAL_SLOTS = 64, 128, 32  # candidates followed
PROPOSED, REFINED = 0.6, 0.7  # least scores of the first two networks, as facenet-pytorch has them

PART = 32  # pictures a pass of the R- and O-net: larger ones leave the cache, and are slower


def _layers(channels: int, filters: int, kernel: int, pool: int | None = None) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(channels, filters, kernel), nn.PReLU(filters)]
    # Caffe, in which MTCNN was trained, rounds the size of a pooled map up.
    return layers if pool is None else [*layers, nn.MaxPool2d(pool, 2, ceil_mode=True)]


class ProposalNet(nn.Module):
    """P-net: scores each 12 x 12 cell of a picture of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*_layers(3, 10, 3, 2), *_layers(10, 16, 3), *_layers(16, 32, 3))
        self.face, self.shift = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores ``(frames, rows, columns)`` and box shifts ``(frames, 4, same)``."""
        x = self.body(x)
        return torch.softmax(self.face(x), dim=1)[:, 1], self.shift(x)


class RefineNet(nn.Module):
    """R-net: scores pictures of 24 x 24 pixels and shifts their boxes."""

    def __init__(self) -> None:
        super().__init__()
        convolutions = [*_layers(3, 28, 3, 3), *_layers(28, 48, 3, 3), *_layers(48, 64, 2)]
        self.body = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(576, 128), nn.PReLU(128))
        self.face, self.shift = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores ``(n,)`` and box shifts ``(n, 4)``."""
        x = self.body(x)
        return torch.softmax(self.face(x), dim=1)[:, 1], self.shift(x)


class OutputNet(nn.Module):
    """O-net: scores pictures of 48 x 48 pixels, shifts their boxes and finds five points."""

    def __init__(self) -> None:
        super().__init__()
        early = [*_layers(3, 32, 3, 3), *_layers(32, 64, 3, 3)]
        late = [*_layers(64, 64, 3, 2), *_layers(64, 128, 2)]
        head = [nn.Flatten(), nn.Linear(1152, 256), nn.PReLU(256)]
        self.body = nn.Sequential(*early, *late, *head)
        self.face, self.shift = nn.Linear(256, 2), nn.Linear(256, 4)
        self.points = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores ``(n,)`` and ``(n, 14)``: 4 box shifts, the points' 5 x and 5 y."""
        x = self.body(x)
        score = torch.softmax(self.face(x), dim=1)[:, 1]
        return score, torch.cat([self.shift(x), self.points(x)], dim=1)


@dataclass(frozen=True, eq=False)
class Candidates:
    """The same number of boxes for each frame, best first; an unused place has score 0."""

    score: Tensor
    """``(frames, places)`` in [0, 1]."""
    box: Tensor
    """``(frames, places, 4)`` pixels."""
    rest: Tensor
    """``(frames, places, 4 or 14)`` what the network said beside the score."""

    def best(self, places: int, threshold: float) -> Candidates:
        """Return the best `places` of each frame, those up to `threshold` emptied."""
        score = torch.where(self.score > threshold, self.score, 0.0)
        score, order = score.topk(min(places, score.shape[1]), dim=1)
        index = order.unsqueeze(2)
        box, rest = (x.take_along_dim(index, dim=1) for x in (self.box, self.rest))
        return Candidates(score, box, rest)

    def without_overlaps(self, limit: float, *, nested: bool = False) -> Candidates:
        """Return them without those that overlap a better one of the frame by more than `limit`.

        The overlap is a share of their union or, if `nested`, of the smaller of the two, so that
        also a box inside another goes.
        """
        shared = _overlaps(self.box, nested=nested)
        rivals = (shared > limit).triu(diagonal=1)  # (frames, better, worse)
        kept = used = self.score > 0
        while True:
            # A box falls to a better one that stands. Each turn settles at least the best box not
            # yet settled, so that this ends at the usual greedy choice, in few turns.
            again = used & ~(rivals & kept.unsqueeze(2)).any(dim=1)
            if torch.equal(again, kept):
                return replace(self, score=torch.where(kept, self.score, 0.0))
            kept = again

    def shifted(self) -> Candidates:
        """Return them with each side of the box moved by its share of the box's size."""
        size = (self.box[..., 2:] - self.box[..., :2]).repeat(1, 1, 2)  # width, height, twice
        return replace(self, box=self.box + self.rest[..., :4] * size)

    def squared(self, height: int, width: int) -> Candidates:
        """Return them with boxes grown to squares and rounded out to pixels, touching the frame."""
        centre = (self.box[..., :2] + self.box[..., 2:]) / 2
        half = (self.box[..., 2:] - self.box[..., :2]).amax(dim=2, keepdim=True) / 2
        last = self.box.new_tensor([width - 1, height - 1])
        low = (centre - half).floor().minimum(last)
        high = (centre + half).ceil().maximum(low + 1).clamp(min=1)
        return replace(self, box=torch.cat([low, high], dim=2))


class Mtcnn:
    """Finds the faces of frames of one size; holds the three networks, in float32."""

    def __init__(self, weights: Path, device: torch.device) -> None:
        self.device = device
        self.proposal, self.refine, self.output = ProposalNet(), RefineNet(), OutputNet()
        nets = nn.ModuleDict({"pnet": self.proposal, "rnet": self.refine, "onet": self.output})
        try:
            nets.load_state_dict({k: v.float() for k, v in load_file(weights).items()})
        except (OSError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(
                f"cannot read the weights {str(weights)!r}: {error}; install mercore-starter again"
            ) from error
        # Channels last: pooling is several times faster so, and pooling is most of the time.
        nets.requires_grad_(False).eval().to(device)
        nets.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs

    def __call__(self, images: Tensor, min_size: float, threshold: float) -> Candidates:
        """Return boxes whose ``rest`` is the points, 5 x and 5 y, in pixels.

        `images` is ``(frames, 3, height, width)`` RGB uint8 in main memory, where resizing bytes
        is 5 to 40 times faster than resizing floats. `min_size` is the smallest face in pixels.
        """
        height, width = images.shape[2:]
        levels = [self._propose(images, size) for size in _levels(height, width, min_size)]
        if not levels:
            return self._nothing(len(images))
        found = _joined(levels).best(FRAME_SLOTS, PROPOSED).without_overlaps(0.7)
        found = self._look(self.refine, images, found.shifted().squared(height, width), side=24)
        found = found.best(FINAL_SLOTS, REFINED).without_overlaps(0.7)
        found = self._look(self.output, images, found.shifted().squared(height, width), side=48)
        found = _with_points(found.best(FINAL_SLOTS, threshold))
        return found.without_overlaps(0.7, nested=True)

    def _propose(self, images: Tensor, size: tuple[int, int]) -> Candidates:
        """Return the best cells of one level of the pyramid."""
        score, shift = self.proposal(self._signed(_resized(images, size)))
        rows, columns = score.shape[1:]
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        corner = torch.stack([x, y], dim=2).reshape(1, -1, 2) * STRIDE  # (1, cells, 2)
        scale = torch.tensor([images.shape[3] / size[1], images.shape[2] / size[0]])
        box = torch.cat([corner * scale, (corner + CELL) * scale], dim=2).to(self.device)
        cells = Candidates(
            score.flatten(1), box.expand(len(images), -1, -1), shift.flatten(2).transpose(1, 2)
        )
        return cells.best(LEVEL_SLOTS, PROPOSED).without_overlaps(0.5)

    def _look(self, net: nn.Module, images: Tensor, found: Candidates, side: int) -> Candidates:
        """Return the candidates with the score and the rest that `net` gives their pixels."""
        used = found.score > 0
        boxes = zip(used.nonzero()[:, 0].tolist(), found.box[used].int().tolist(), strict=True)
        patches = [_patch(images[frame], box, side) for frame, box in boxes]
        if not patches:
            return replace(found, rest=found.score.new_zeros(*used.shape, 14))
        seen = [net(self._signed(part)) for part in torch.split(torch.cat(patches), PART)]
        scores = torch.zeros_like(found.score)
        scores[used] = torch.cat([score for score, _ in seen])
        rests = found.score.new_zeros(*used.shape, seen[0][1].shape[1])
        rests[used] = torch.cat([rest for _, rest in seen])
        return Candidates(scores, found.box, rests)

    def _signed(self, images: Tensor) -> Tensor:
        return images.to(self.device).float() / 127.5 - 1

    def _nothing(self, frames: int) -> Candidates:
        none = torch.zeros(frames, 0, 14, device=self.device)
        return Candidates(none[..., 0], none[..., :4], none[..., 4:])


def _levels(height: int, width: int, min_size: float) -> Iterator[tuple[int, int]]:
    scale = CELL / max(min_size, CELL)
    while min(height, width) * scale >= CELL:
        yield round(height * scale), round(width * scale)
        scale *= SHRINK


def _joined(levels: Sequence[Candidates]) -> Candidates:
    score = torch.cat([level.score for level in levels], dim=1)
    box = torch.cat([level.box for level in levels], dim=1)
    return Candidates(score, box, torch.cat([level.rest for level in levels], dim=1))


def _overlaps(box: Tensor, *, nested: bool) -> Tensor:
    """Return ``(frames, n, n)`` shares of each two of the ``(frames, n, 4)`` boxes."""
    one, other = box.unsqueeze(2), box.unsqueeze(1)
    low, high = torch.maximum(one, other), torch.minimum(one, other)
    shared = (high[..., 2:] - low[..., :2]).clamp(min=0).prod(dim=-1)
    area = (box[..., 2:] - box[..., :2]).prod(dim=-1)
    area, others = area.unsqueeze(2), area.unsqueeze(1)
    return shared / (torch.minimum(area, others) if nested else area + others - shared)


def _with_points(found: Candidates) -> Candidates:
    """Return them with shifted boxes, and the points in pixels instead of shares of the box."""
    size = found.box[..., 2:] - found.box[..., :2]
    start, scale = (v.repeat_interleave(5, dim=2) for v in (found.box[..., :2], size))
    return replace(found.shifted(), rest=start + found.rest[..., 4:] * scale)


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)


def _patch(image: Tensor, box: Sequence[int], side: int) -> Tensor:
    """Return ``(1, 3, side, side)`` uint8: what the box covers, black outside the picture."""
    height, width = image.shape[1:]
    left, top, right, bottom = box
    inside = image[:, max(top, 0) : bottom, max(left, 0) : right]
    room = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    return _resized(F.pad(inside, room).unsqueeze(0), (side, side))
