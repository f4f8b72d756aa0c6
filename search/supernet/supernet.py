"""`SuperNet`: every network of a space in one module; one path of it runs at a time."""

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
    """Stem, blocks of candidates, head, and the architecture parameters. Where the space has
    cells, the candidates run in the places of their searched edges.

    `alpha` (blocks, candidates): architecture parameters; a path's probability is softmax(alpha)
    over its block. Blocks with fewer candidates than the widest are padded, `mask` says where; nor
    are those among them that were left out. A
    block's candidates start alike (`search.initialisation`).
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
        """(blocks, candidates), each row adding up to one; zero for padding."""
        return self.alpha.masked_fill(~self.mask, -torch.inf).softmax(-1)

    def weights(self) -> list[nn.Parameter]:
        """Every parameter but `alpha`."""
        return [value for name, value in self.named_parameters() if name != "alpha"]

    def leave_out(self, is_out: NDArray[np.bool_]) -> None:
        """Have candidates (blocks, candidates) no probability from now on; one of each block must
        be left."""
        self.mask &= ~torch.from_numpy(is_out).to(self.mask.device)

    def sample(self, generator: np.random.Generator) -> list[int]:
        """A path: one candidate a block, drawn from softmax(alpha)."""
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
        """The same with gates, for an architecture step.

        `sampled` (blocks, n): candidates that have a gate, -1 for none; `active` (blocks,): the
        position in `sampled` of the one that runs; `gates` (blocks, n): see
        `search.supernet.gates`.
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
    """Draw one set of weights for layers of the same name, of the size that torch's own
    initialisation gives the largest of them; each candidate's are the part of it that it has."""
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
    """The first channels out and in, the centre of the kernel."""
    for axis, size in enumerate(shape):
        first = (weight.shape[axis] - size) // 2 if axis > 1 else 0
        weight = weight.narrow(axis, first, size)
    return weight
