"""What an operator's latency depends on, as numbers: physical terms, and a place among operators.

The terms (multiply-accumulates, bytes of activations and of weights of each kind of inner layer,
launches) add up to a roofline-like latency (Williams, Waterman & Patterson, Roofline, CACM 2009);
the place (sizes in octaves, and what is there or not) says which operators are alike.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from latency.operators.blocks import expanded_channels
from latency.operators.kinds import KINDS, Channels, Layer
from latency.operators.spec import OpSpec

Term = tuple[str, str]
"""(role of an inner layer, what of it is counted): ("depthwise", "macs")."""

LAUNCH: Term = ("layer", "launches")

_VECTOR = 16
"""Numbers in the widest vector register of today's CPUs (512 bits of float32)."""

_TYPICAL_MACS = {"depthwise": 4.0, "dense": 2.0, "grouped": 2.0}
_TYPICAL = {"macs": 1.0, "bytes": 4.0, "weights": 4.0, "launches": 10.0}
"""A processor's usual balance: moving a byte takes as long as four multiply-accumulates, starting
a layer as long as ten thousand; those of a depthwise convolution run at a quarter of the rate."""

_COSTS = {
    "none": "none",
    "relu": "relu",
    "relu6": "clip",
    "h_swish": "hard",
    "h_sigmoid": "hard",
    "sigmoid": "smooth",
    "silu": "smooth",
    "gelu": "exact",
}
"""Activations that cost alike: runtimes compute a ReLU with the convolution before it, and go over
its output once more for any other."""

_COST_ORDER = ("none", "relu", "clip", "hard", "smooth", "exact")
_WEIGHTS = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0])
"""Of side, channels in, out and hidden, kernel, stride, groups, dilation, activation."""
_KINDS = tuple(name for name, kind in KINDS.items() if not kind.activates_inside)
"""Kinds that feature vectors tell apart, from each other and from all others."""
_STRANGER = 3.0
"""Octaves that another kind, activation, squeeze-excite or batch counts as."""


def physical_terms(op: OpSpec, sized: bool = False) -> dict[Term, float]:
    """Millions of multiply-accumulates and megabytes of every role of inner layer, for the whole
    batch, thousands of layers, and megabytes that a kernel's activation goes over once more.
    `sized`: depthwise kernels of each size are a role."""
    terms: dict[Term, float] = {LAUNCH: sum(not layer.is_nothing for layer in op.layers) / 1e3}
    for layer in op.layers:
        counted = {
            "macs": op.batch * layer.macs / 1e6,
            "bytes": op.batch * layer.activations * 4e-6,
            "weights": layer.params * 4e-6,
        }
        for what, amount in counted.items():
            if amount:
                term = (role(layer, sized), what)
                terms[term] = terms.get(term, 0.0) + amount
    if op.traits.is_convolution and op.activation not in ("none", "relu"):
        height, width, channels = op.out_shape
        terms[_COSTS[op.activation], "bytes"] = op.batch * height * width * channels * 4e-6
    return terms


def role(layer: Layer, sized: bool = False) -> str:
    """Which code executes a layer: pointwise, dense, grouped and depthwise convolutions (those of
    each size where `sized`), products with a vector, and the layer's kind for all others."""
    if layer.traits.is_flat:
        return "vector"
    if not layer.traits.convolves:
        return layer.kind
    if 1 < layer.groups < layer.in_shape[2]:
        return "grouped"
    if layer.groups > 1:
        return f"depthwise {layer.kernel[0]}x{layer.kernel[1]}" if sized else "depthwise"
    if layer.kernel != (1, 1):
        return "dense"
    return "pointwise" if layer.in_shape[:2] != (1, 1) else "vector"


def typical_cost(term: Term) -> float:
    """What a term usually costs, in units of one million multiply-accumulates."""
    layer, what = term
    return _TYPICAL[what] * (_TYPICAL_MACS.get(family(layer), 1.0) if what == "macs" else 1.0)


def family(role: str) -> str:
    """The role without its size."""
    return role.split()[0]


def kernel_family(op: OpSpec) -> str:
    """Which operators one cost model serves: convolutions by their role, others by their kind."""
    if op.traits.is_convolution:
        return role(op.layers[0])
    return op.kind


def kernel_families(ops: Iterable[OpSpec]) -> dict[str, list[OpSpec]]:
    """Operators by their `kernel_family`, in order."""
    families: dict[str, list[OpSpec]] = {}
    for op in ops:
        families.setdefault(kernel_family(op), []).append(op)
    return families


def place(op: OpSpec) -> NDArray[np.float64]:
    """Sizes in octaves, what an operator has or lacks, and how much of its vectors is idle."""
    hidden = _hidden(op)
    cost = _COSTS[op.activation]
    residual = op.traits.has_residual(op)
    has = [hidden == op.in_channels, bool(op.squeeze_excite), residual]
    has += [cost == name for name in ("none", "clip", "hard", "smooth", "exact")]
    has += [op.kind == kind for kind in _KINDS]
    idle = [4 * _idle_octaves(channels) for channels in (op.in_channels, hidden, op.out_channels)]
    return np.array([*_octaves(op), *map(float, has), *idle, *_misaligned(op)])


class Neighbours:
    """Operators among which the nearest to others are looked for."""

    def __init__(self, ops: Sequence[OpSpec]) -> None:
        self.ops = tuple(ops)
        self._sizes = np.array([_whereabouts(op) for op in ops])
        self._traits = np.array([_traits(op) for op in ops], object)

    def distances(self, op: OpSpec) -> NDArray[np.float64]:
        """How far each of them is from `op`, shape (operators,): octaves between their sizes, taken
        together as a Euclidean length, and 3 for each way in which they differ in kind."""
        sizes = self._sizes - _whereabouts(op)
        strange = (self._traits != np.array(_traits(op), object)).sum(1)
        return np.sqrt(((sizes * _WEIGHTS) ** 2).sum(1)) + _STRANGER * strange


@lru_cache(maxsize=8192)
def _octaves(op: OpSpec) -> NDArray[np.float64]:
    side = math.sqrt(op.height * op.width)
    groups = op.groups if op.groups < op.in_channels else 1
    sizes = (
        *(side, op.in_channels, op.out_channels, _hidden(op), op.kernel, op.stride),
        *(groups, op.dilation),
    )
    return np.log2(np.array(sizes, float))


@lru_cache(maxsize=8192)
def _whereabouts(op: OpSpec) -> NDArray[np.float64]:
    """Sizes in octaves by which the nearest are found: what is told twice of a kernel counts
    once."""
    sizes = _octaves(op).copy()
    if not op.traits.activates_inside:
        sizes[3] = 0.0
    if op.traits.channels is not Channels.MIXED:
        sizes[1] = 0.0
    return np.array([*sizes, math.log2(_activation_cost(op))])


def _activation_cost(op: OpSpec) -> float:
    """A kernel's activation as a size: those that cost alike are near. The activations inside of
    blocks tell these apart (`_traits`)."""
    if op.traits.activates_inside:
        return 1.0
    return float(2 ** (_COST_ORDER.index(_COSTS[op.activation]) / 4))


def _activation_inside(op: OpSpec) -> str:
    """What the activation of a block costs; a ReLU and a ReLU6 are too near to be strangers."""
    if not op.traits.activates_inside:
        return ""
    cost = _COSTS[op.activation]
    return "clip" if cost == "relu" else cost


@lru_cache(maxsize=8192)
def _traits(op: OpSpec) -> tuple[object, ...]:
    return kernel_family(op), _activation_inside(op), bool(op.squeeze_excite), op.batch


def _hidden(op: OpSpec) -> int:
    return (op.traits.hidden or expanded_channels)(op)


def _misaligned(op: OpSpec) -> tuple[float, float]:
    """Octaves by which the channels (of each group) in and out miss a multiple of a vector. Blocks
    of several layers have too many channels to name: none."""
    if op.traits.hidden is not None:
        return 0.0, 0.0
    groups = 1 if op.groups == op.in_channels else op.groups
    whole = math.log2(_VECTOR)
    near, far = (
        whole - math.log2(math.gcd(channels // groups, _VECTOR))
        for channels in (op.in_channels, op.out_channels)
    )
    return near, far


def _idle_octaves(channels: int) -> float:
    return math.log2(-(-channels // _VECTOR) * _VECTOR / channels)
