"""Features of operators: physical terms, feature vectors, and distances.

The terms (multiply-accumulates, bytes of activations and of weights of each kind of inner layer,
launches) add up to a roofline-like latency (Williams, Waterman & Patterson, Roofline, CACM 2009).
A feature vector has sizes in octaves, traits, and the idle share of vector registers.
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
"""Activations by cost: runtimes compute a ReLU with the convolution before it, and pass over its
output once more for any other."""

_COST_ORDER = ("none", "relu", "clip", "hard", "smooth", "exact")
_WEIGHTS = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0])
"""Of side, channels in, out and hidden, kernel, stride, groups, dilation, activation."""
_KINDS = tuple(name for name, kind in KINDS.items() if not kind.activates_inside)
"""Kinds that have a feature of their own."""
_TRAIT_OCTAVES = 3.0
"""Distance for another kind, activation, squeeze-excite or batch."""


def physical_terms(op: OpSpec, sized: bool = False) -> dict[Term, float]:
    """Millions of multiply-accumulates and megabytes of every role of inner layer, for the whole
    batch, thousands of layers, and megabytes of a separate pass for a kernel's activation.
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
    if layer.kind != "conv":
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
    """Name of the cost model for an operator: a convolution's role, or else its kind."""
    if op.traits.is_convolution:
        return role(op.layers[0])
    return op.kind


def kernel_families(ops: Iterable[OpSpec]) -> dict[str, list[OpSpec]]:
    """Operators by their `kernel_family`, in order."""
    families: dict[str, list[OpSpec]] = {}
    for op in ops:
        families.setdefault(kernel_family(op), []).append(op)
    return families


def feature_vector(op: OpSpec) -> NDArray[np.float64]:
    """Sizes in octaves, traits as 0 or 1, and the idle share of vector registers."""
    hidden = _hidden(op)
    cost = _COSTS[op.activation]
    traits = [hidden == op.in_channels, bool(op.squeeze_excite), op.traits.has_residual(op)]
    traits += [cost == name for name in _COST_ORDER if name != "relu"]
    traits += [op.kind == kind for kind in _KINDS]
    idle = [
        4 * math.log2(-(-channels // _VECTOR) * _VECTOR / channels)
        for channels in (op.in_channels, hidden, op.out_channels)
    ]
    return np.array([*_octaves(op), *map(float, traits), *idle, *_misaligned(op)])


class Neighbours:
    """Operators, to look up the nearest of them to another operator."""

    def __init__(self, ops: Sequence[OpSpec]) -> None:
        self.ops = tuple(ops)
        self._sizes = np.array([_sizes(op) for op in ops])
        self._traits = np.array([_traits(op) for op in ops], object)

    def distances(self, op: OpSpec) -> NDArray[np.float64]:
        """Distance of each operator to `op`, shape (operators,): the Euclidean norm of the
        differences in size, in octaves, plus 3 for each different trait."""
        sizes = self._sizes - _sizes(op)
        different = (self._traits != np.array(_traits(op), object)).sum(1)
        return np.sqrt(((sizes * _WEIGHTS) ** 2).sum(1)) + _TRAIT_OCTAVES * different


@lru_cache(maxsize=8192)
def _octaves(op: OpSpec) -> NDArray[np.float64]:
    side = math.sqrt(op.height * op.width)
    groups = op.groups if op.groups < op.in_channels else 1
    channels = (op.in_channels, op.out_channels, _hidden(op))
    return np.log2(np.array([side, *channels, op.kernel, op.stride, groups, op.dilation], float))


@lru_cache(maxsize=8192)
def _sizes(op: OpSpec) -> NDArray[np.float64]:
    """Sizes in octaves for distances, each counted once. The activation of a kernel is a size, too:
    activations of similar cost are near."""
    sizes = _octaves(op).copy()
    activation = 0.0
    if not op.traits.activates_inside:
        sizes[3] = 0.0
        activation = _COST_ORDER.index(_COSTS[op.activation]) / 4
    if op.traits.channels is not Channels.MIXED:
        sizes[1] = 0.0
    return np.array([*sizes, activation])


@lru_cache(maxsize=8192)
def _traits(op: OpSpec) -> tuple[object, ...]:
    """Kernel family, cost of a block's activation (a ReLU6 counts as a ReLU), and so on."""
    cost = _COSTS[op.activation].replace("relu", "clip") if op.traits.activates_inside else ""
    return kernel_family(op), cost, bool(op.squeeze_excite), op.batch


def _hidden(op: OpSpec) -> int:
    return (op.traits.hidden or expanded_channels)(op)


def _misaligned(op: OpSpec) -> tuple[float, ...]:
    """Octaves by which the channels of a group, in and out, miss a multiple of a vector; 0 for
    blocks."""
    if op.traits.hidden is not None:
        return 0.0, 0.0
    groups = 1 if op.groups == op.in_channels else op.groups
    return tuple(
        math.log2(_VECTOR) - math.log2(math.gcd(channels // groups, _VECTOR))
        for channels in (op.in_channels, op.out_channels)
    )
