"""One decomposition, many readers: each operator kind is one record, known here alone.

A `Kind` says what an operator of it must be (`check`), which primitive layers it consists of
(`decompose`), and its traits. MACs, parameters, bytes, regression features, the torch module
(`latency.modules`) and the exported graph (`devices.export`) all read these, so that the operator
measured is the operator searched is the operator deployed. A new kind is one record in `KINDS`.

Layers name their inputs, so a kind may branch and join (residual, squeeze-excite, and the
nested copy/split/add cells of tree-structured spaces):

    mbconv, stride 1, equal channels           input ──┬─ expand ─ depthwise ─ project ─ add
                                                       └────────────────────────────────┘
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from latency.errors import SpecError
from latency.operators import blocks, primitives, trees
from latency.operators.fields import Op, OpFields
from latency.operators.layer import INPUT, OTHER, Layer, Shape

ACTIVATIONS = ("none", "relu", "relu6", "h_swish", "h_sigmoid", "silu", "sigmoid", "gelu")


class Channels(Enum):
    """How an operator's output channels follow from its input channels."""

    MIXED = "any number, each made of all inputs"
    KEPT = "the same ones"
    REARRANGED = "some of them, or more beside them"


class Parts(Protocol):
    """From an operator to those whose latencies add up to its own."""

    def __call__(self, op: Op, /) -> tuple[Op, ...]: ...


def _itself(op: Op, /) -> tuple[Op, ...]:
    return (op,)


@dataclass(frozen=True)
class Kind:
    """An operator kind: its layers in an order in which they can be executed, what it refuses
    besides what its traits refuse (`own_check`), and its traits.

    `is_pointwise`: has neither kernel nor stride. `is_convolution`: a runtime executes it as one
    convolution. `is_alone`: is never in a chain with others, even with a single input.
    `other_shape`: that of its second input, None where it has just one. `hidden`: of a block, the
    channels inside of it. `activates_inside`: the activation is between its layers.
    `has_residual`: whether an operator adds its input to its output. `parts`: the operators whose
    latencies add up to one's own.
    """

    name: str
    decompose: Callable[[OpFields], tuple[Layer, ...]]
    own_check: Callable[[OpFields], None] = lambda op: None
    channels: Channels = Channels.MIXED
    is_pointwise: bool = False
    is_convolution: bool = False
    is_alone: bool = False
    has_groups: bool = False
    has_dilation: bool = False
    has_odd_kernel: bool = False
    has_tree: bool = False
    activates_inside: bool = False
    other_shape: Callable[[OpFields], Shape] | None = None
    hidden: Callable[[OpFields], int] | None = None
    has_residual: Callable[[OpFields], bool] = lambda op: False
    parts: Parts = _itself

    @property
    def stands_alone(self) -> bool:
        """Whether an operator is in no chain with others: it has a second input, or its output is
        not what others read."""
        return self.is_alone or self.other_shape is not None

    def check(self, op: OpFields) -> None:
        """Raise `SpecError` where the operator's sizes contradict its kind."""
        if (op.groups != 1 and not self.has_groups) or (op.dilation != 1 and not self.has_dilation):
            raise SpecError(f"{op.key}: only a convolution has groups and dilation")
        if op.in_channels % op.groups or op.out_channels % op.groups:
            raise SpecError(f"{op.key}: the groups do not divide the channels")
        if self.channels is Channels.KEPT and op.out_channels != op.in_channels:
            raise SpecError(f"{op.key}: a {self.name} keeps its channels")
        if self.is_pointwise and (op.kernel, op.stride) != (1, 1):
            raise SpecError(f"{op.key}: a {self.name} has neither kernel nor stride")
        if self.has_odd_kernel and op.kernel % 2 == 0:
            raise SpecError(f"{op.key}: the kernel of a padded convolution is odd")
        if op.tree and not self.has_tree:
            raise SpecError(f"{op.key}: a {self.name} has no tree")
        self.own_check(op)


def _input_shape(op: OpFields) -> Shape:
    return (op.height, op.width, op.in_channels)


def _pixel_shape(op: OpFields) -> Shape:
    return (1, 1, op.in_channels)


def _added_shape(op: OpFields) -> Shape:
    return (op.height, op.width, op.out_channels - op.in_channels)


def _out_shape(op: OpFields) -> Shape:
    return op.out_shape


def _pointwise(name: str, layer: str, **traits: Any) -> Kind:
    """One layer of the kind `layer` that keeps height, width and, by default, channels."""
    traits = {"channels": Channels.KEPT, **traits}
    return Kind(name, primitives.pointwise(layer), is_pointwise=True, **traits)


def _joining(name: str, layer: str, other: Callable[[OpFields], Shape], **traits: Any) -> Kind:
    """One layer of the kind `layer` that makes one tensor of two."""
    traits = {"channels": Channels.KEPT, **traits}
    return Kind(name, primitives.joining(layer), is_pointwise=True, other_shape=other, **traits)


_KINDS = (
    Kind(
        "mbconv",
        blocks.decompose_mbconv,
        has_odd_kernel=True,
        activates_inside=True,
        hidden=blocks.expanded_channels,
        has_residual=blocks.has_residual,
    ),
    Kind(
        "conv",
        primitives.decompose_conv,
        is_convolution=True,
        has_groups=True,
        has_dilation=True,
    ),
    Kind(
        "pool",
        primitives.decompose_pool,
        primitives.check_pool,
        channels=Channels.KEPT,
    ),
    Kind("linear", primitives.decompose_linear, primitives.check_linear),
    Kind(
        "conv_add",
        primitives.decompose_conv_add,
        is_convolution=True,
        has_groups=True,
        has_dilation=True,
        other_shape=_out_shape,
    ),
    Kind("conv_transpose", primitives.decompose_conv_transpose, primitives.check_conv_transpose),
    _pointwise("matmul", "matmul", channels=Channels.MIXED),
    Kind(
        "max_pool",
        primitives.decompose_padded_pool,
        primitives.check_max_pool,
        channels=Channels.KEPT,
    ),
    _pointwise("activation", "identity", own_check=primitives.check_activation),
    _joining("add", "add", _input_shape),
    _joining("multiply", "multiply", _input_shape),
    _joining("scale", "multiply", _pixel_shape),
    _pointwise("norm", "norm"),
    _pointwise("layer_norm", "layer_norm"),
    _joining(
        "concat",
        "concat",
        _added_shape,
        own_check=primitives.check_concat,
        channels=Channels.REARRANGED,
    ),
    _pointwise("slice", "slice", own_check=primitives.check_slice, channels=Channels.REARRANGED),
    _pointwise("transpose", "transpose", is_alone=True),
    Kind(
        "resize",
        primitives.decompose_resize,
        primitives.check_resize,
        channels=Channels.KEPT,
    ),
    _pointwise("softmax", "softmax"),
    _pointwise("reorder", "reorder", is_alone=True),
    Kind(
        "avg_pool",
        primitives.decompose_padded_pool,
        primitives.check_avg_pool,
        channels=Channels.KEPT,
    ),
    Kind("sepconv", blocks.decompose_sepconv, has_odd_kernel=True, has_dilation=True),
    Kind(
        "tree",
        trees.decompose_tree,
        trees.check_tree,
        has_groups=True,
        has_odd_kernel=True,
        has_tree=True,
        hidden=trees.hidden_channels,
        parts=trees.tree_parts,
    ),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}
"""Kinds by their names, in the order in which feature vectors tell them apart: a new one goes
last."""


def other_shape(op: OpFields) -> Shape | None:
    """Shape of the operator's second input, None where it has just one."""
    shape = KINDS[op.kind].other_shape
    return shape and shape(op)


def input_shapes(op: OpFields) -> dict[str, Shape]:
    """The (height, width, channels) of an operator's inputs, by their names."""
    shapes = {INPUT: _input_shape(op), OTHER: other_shape(op)}
    return {name: shape for name, shape in shapes.items() if shape is not None}
