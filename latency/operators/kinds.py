"""Each operator kind is one record, known here alone.

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
from typing import Any

from latency.errors import SpecError
from latency.operators import blocks, trees
from latency.operators.chain import Chain
from latency.operators.fields import OpFields
from latency.operators.layer import INPUT, OTHER, Layer, Shape

ACTIVATIONS = ("none", "relu", "relu6", "h_swish", "h_sigmoid", "silu", "sigmoid", "gelu")


class Channels(Enum):
    """How an operator's output channels follow from its input channels."""

    MIXED = "any number, each computed from all inputs"
    KEPT = "the same ones"
    REARRANGED = "some of them, or more beside them"


@dataclass(frozen=True)
class Kind:
    """An operator kind.

    `append`: adds its layers to a chain, in an order in which they can be executed. `rules`: what
    must hold for an operator besides what the traits demand, by the error message.

    `is_pointwise`: has neither kernel nor stride. `is_convolution`: a runtime executes it as one
    convolution. `is_alone`: is never in a chain with others, even with a single input.
    `other_shape`: shape of its second input, None if it has just one. `hidden`: hidden channels of
    a block. `activates_inside`: the activation is between its layers. `has_residual`: whether an
    operator adds its input to its output.
    """

    name: str
    append: Callable[[Chain, OpFields], None]
    rules: dict[str, Callable[[OpFields], bool]] | None = None
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

    @property
    def stands_alone(self) -> bool:
        """Whether an operator is in no chain with others: it has a second input, or its output is
        not what others read."""
        return self.is_alone or self.other_shape is not None

    def decompose(self, op: OpFields) -> tuple[Layer, ...]:
        """The layers of an operator."""
        chain = Chain(_in_shape(op))
        self.append(chain, op)
        return chain.layers

    def check(self, op: OpFields) -> None:
        """Raise `SpecError` where the operator's sizes contradict its kind."""
        rules = {
            "only a convolution has groups and dilation": (
                (op.groups == 1 or self.has_groups) and (op.dilation == 1 or self.has_dilation)
            ),
            "the groups do not divide the channels": (
                op.in_channels % op.groups == 0 and op.out_channels % op.groups == 0
            ),
            f"a {self.name} keeps its channels": (
                self.channels is not Channels.KEPT or op.out_channels == op.in_channels
            ),
            f"a {self.name} has neither kernel nor stride": (
                not self.is_pointwise or (op.kernel, op.stride) == (1, 1)
            ),
            "the kernel of a padded convolution is odd": not self.has_odd_kernel or op.kernel % 2,
            f"a {self.name} has no tree": self.has_tree or not op.tree,
            **{message: holds(op) for message, holds in (self.rules or {}).items()},
        }
        for message, holds in rules.items():
            if not holds:
                raise SpecError(f"{op.key}: {message}")


def _in_shape(op: OpFields) -> Shape:
    return (op.height, op.width, op.in_channels)


def _same_size(op: OpFields) -> Shape:
    return (op.height, op.width, op.out_channels)


def _enlarged(op: OpFields) -> Shape:
    """Shape of the output that has `stride` times the input's height and width."""
    return (op.height * op.stride, op.width * op.stride, op.out_channels)


def _reduced(op: OpFields) -> Shape:
    """Shape of the output of a padded convolution."""
    return (-(-op.height // op.stride), -(-op.width // op.stride), op.out_channels)


def _pooled(op: OpFields, padding: int = 0) -> Shape:
    spans = [size + padding - op.kernel for size in (op.height, op.width)]
    return (spans[0] // op.stride + 1, spans[1] // op.stride + 1, op.out_channels)


def _pooled_padded(op: OpFields) -> Shape:
    """Shape of the output of a pooling that is padded by half of its kernel on each side."""
    return _pooled(op, 2 * ((op.kernel - 1) // 2))


def _single(name: str, out_shape: Callable[[OpFields], Shape], **traits: Any) -> Kind:
    """One layer, of the kind `layer` (default: `name`), with the kernel, the stride and the
    activation of the operator. It keeps the channels unless `channels` says otherwise."""
    layer = traits.pop("layer", name)
    others = (OTHER,) if "other_shape" in traits else ()

    def append(chain: Chain, op: OpFields) -> None:
        sizes = {"kernel": (op.kernel, op.kernel), "stride": op.stride}
        chain.append(layer, layer, out_shape(op), *others, activation=op.activation, **sizes)

    return Kind(name, append, **{"channels": Channels.KEPT, **traits})


def _pointwise(name: str, **traits: Any) -> Kind:
    return _single(name, _same_size, is_pointwise=True, **traits)


_WINDOW = "the pooling window is larger than the input"
_KINDS = (
    Kind(
        "mbconv",
        blocks.append_mbconv,
        has_odd_kernel=True,
        activates_inside=True,
        hidden=blocks.expanded_channels,
        has_residual=blocks.has_residual,
    ),
    Kind("conv", blocks.append_conv, is_convolution=True, has_groups=True, has_dilation=True),
    _single("pool", _pooled, rules={_WINDOW: lambda op: min(_pooled(op)) > 0}),
    _pointwise(
        "linear",
        channels=Channels.MIXED,
        rules={"a linear layer needs 1x1 inputs": lambda op: op.height == op.width == 1},
    ),
    Kind(
        "conv_add",
        blocks.append_conv_add,
        is_convolution=True,
        has_groups=True,
        has_dilation=True,
        other_shape=_reduced,
    ),
    _single(
        "conv_transpose",
        _enlarged,
        channels=Channels.MIXED,
        rules={"stride 1 needs an odd kernel": lambda op: op.stride > 1 or op.kernel % 2 == 1},
    ),
    _pointwise("matmul", channels=Channels.MIXED),
    _single("max_pool", _pooled_padded, rules={_WINDOW: lambda op: min(_pooled_padded(op)) > 0}),
    _pointwise(
        "activation",
        layer="identity",
        rules={"an activation names its function": lambda op: op.activation != "none"},
    ),
    _pointwise("add", other_shape=_in_shape),
    _pointwise("multiply", other_shape=_in_shape),
    _pointwise("scale", layer="multiply", other_shape=lambda op: (1, 1, op.in_channels)),
    _pointwise("norm"),
    _pointwise("layer_norm"),
    _pointwise(
        "concat",
        channels=Channels.REARRANGED,
        other_shape=lambda op: (op.height, op.width, op.out_channels - op.in_channels),
        rules={"a concatenation adds channels": lambda op: op.out_channels > op.in_channels},
    ),
    _pointwise(
        "slice",
        channels=Channels.REARRANGED,
        rules={"a slice adds no channels": lambda op: op.out_channels <= op.in_channels},
    ),
    _pointwise("transpose", is_alone=True),
    _single("resize", _enlarged, rules={"a resize has no kernel": lambda op: op.kernel == 1}),
    _pointwise("softmax"),
    _pointwise("reorder", is_alone=True),
    _single(
        "avg_pool",
        _pooled_padded,
        rules={
            "avg_pool needs an odd kernel and stride 1": lambda op: op.kernel % 2 == op.stride == 1
        },
    ),
    Kind("sepconv", blocks.append_sepconv, has_odd_kernel=True, has_dilation=True),
    Kind(
        "tree",
        trees.append_tree,
        trees.RULES,
        has_groups=True,
        has_odd_kernel=True,
        has_tree=True,
        hidden=trees.hidden_channels,
    ),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}
"""Kinds by name, in the order of their features: a new one goes last."""


def other_shape(op: OpFields) -> Shape | None:
    """Shape of the operator's second input, None if it has just one."""
    shape = KINDS[op.kind].other_shape
    return shape and shape(op)


def input_shapes(op: OpFields) -> dict[str, Shape]:
    """The (height, width, channels) of an operator's inputs, by their names."""
    other = other_shape(op)
    return {INPUT: _in_shape(op)} | ({} if other is None else {OTHER: other})
