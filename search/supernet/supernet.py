"""`SuperNet`: all networks of a space in one module, which runs one path at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latency.modules import OperatorModule
from latency.operators.trees import identity_layer
from search.space import SearchSpace
from search.supernet.gates import gated

Transform = Callable[[Tensor], Tensor]


class SuperNet(nn.Module):
    """Stem, blocks of candidates, and head. In a space with cells, the candidates replace the
    cells' searched edges.

    `alpha` (blocks, candidates): architecture parameters; a candidate's probability is the softmax
    over its block. Rows of blocks with fewer candidates are padded; `mask` is true for the real
    ones. A block's candidates start with shared weights (`start_alike`).
    """

    mask: Tensor

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        self.stem = nn.Sequential(*(OperatorModule(op) for op in space.stem))
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Identity() if op is None else OperatorModule(op) for op in block)
            for block in space.blocks
        )
        for block in self._candidates():
            start_alike(block)
        self.cells = nn.ModuleList(OperatorModule(cell.op) for cell in space.cells)
        self.head = nn.Sequential(*(OperatorModule(op) for op in space.head))
        width = max(space.counts)
        self.alpha = nn.Parameter(torch.zeros(len(space.blocks), width))
        counts = torch.tensor(space.counts)
        self.register_buffer("mask", torch.arange(width) < counts[:, None], persistent=False)

    @property
    def log_probabilities(self) -> Tensor:
        """(blocks, candidates); minus infinity for padding."""
        return self.alpha.masked_fill(~self.mask, -torch.inf).log_softmax(-1)

    @property
    def probabilities(self) -> Tensor:
        """(blocks, candidates); zero for padding."""
        return self.alpha.masked_fill(~self.mask, -torch.inf).softmax(-1)

    def weights(self) -> list[nn.Parameter]:
        """Every parameter but `alpha`."""
        return [value for name, value in self.named_parameters() if name != "alpha"]

    def leave_out(self, is_out: NDArray[np.bool_]) -> None:
        """Have candidates (blocks, candidates) no probability from now on; one of each block must
        be left."""
        self.mask &= ~torch.from_numpy(is_out).to(self.mask.device)

    def sample(self, generator: np.random.Generator) -> list[int]:
        """Draw a path, one candidate per block, from the probabilities."""
        cumulative = self.probabilities.detach().double().cumsum(-1).cpu().numpy()
        draws = generator.random(len(cumulative)) * cumulative[:, -1]
        return [
            int(np.searchsorted(row[:count], draw, side="right").clip(max=count - 1))
            for row, draw, count in zip(cumulative, draws, self.space.counts, strict=True)
        ]

    def _candidates(self) -> Iterator[nn.ModuleList]:
        for block in self.blocks:
            assert isinstance(block, nn.ModuleList)
            yield block

    def forward(self, x: Tensor, path: Sequence[int]) -> Tensor:
        """Class scores of the network that takes candidate `path[b]` in block b."""
        chosen = [block[choice] for block, choice in zip(self._candidates(), path, strict=True)]
        x = self.stem(x)
        for transform in self._middle(chosen):
            x = transform(x)
        return self.head(x)

    def forward_gated(self, x: Tensor, gates: Tensor, sampled: Tensor, active: Tensor) -> Tensor:
        """Class scores of a path, differentiable in the gates of some candidates of each block
        (`search.supernet.gates`).

        `gates` (blocks, n); `sampled` (blocks, n): the candidate of each gate, -1 for none;
        `active` (blocks,): the column of `sampled` that runs.
        """

        def gated_block(row: int, block: nn.ModuleList) -> Transform:
            candidates = [block[choice] for choice in sampled[row].tolist() if choice >= 0]
            open_gates, running = gates[row, : len(candidates)], int(active[row])
            return lambda x: gated(x, open_gates, candidates, running)

        x = self.stem(x)
        blocks = [gated_block(row, block) for row, block in enumerate(self._candidates())]
        for transform in self._middle(blocks):
            x = transform(x)
        return self.head(x)

    def _middle(self, blocks: Sequence[Transform]) -> Sequence[Transform]:
        """What runs between stem and head where the blocks compute `blocks`: these, or the cells
        with these in place of their searched edges."""
        if not self.cells:
            return blocks
        return [
            partial(cell, replaced=dict(zip(map(identity_layer, spec.edges), edges, strict=True)))
            for cell, (spec, edges) in zip(self.cells, self.space.by_cell(blocks), strict=True)
        ]


@torch.no_grad()
def start_alike(candidates: Iterable[nn.Module]) -> None:
    """Initialise layers of the same name as slices of one weight tensor. Its scale is that of
    torch's initialisation of the largest layer."""
    alike: dict[tuple[str, int], list[Tensor]] = {}
    for candidate in candidates:
        for name, value in candidate.named_parameters():
            if value.dim() > 1:
                alike.setdefault((name, value.dim()), []).append(value)
    for weights in alike.values():
        largest = [max(sizes) for sizes in zip(*(w.shape for w in weights), strict=True)]
        drawn = torch.empty(largest).uniform_(-1, 1)
        most = max(weights, key=Tensor.numel)
        drawn *= most.norm() / _part(drawn, most.shape).norm()
        for weight in weights:
            weight.copy_(_part(drawn, weight.shape))


def _part(weight: Tensor, shape: torch.Size) -> Tensor:
    """The first output and input channels, and the centre of the kernel."""
    for axis, size in enumerate(shape):
        first = (weight.shape[axis] - size) // 2 if axis > 1 else 0
        weight = weight.narrow(axis, first, size)
    return weight
