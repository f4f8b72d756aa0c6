"""One decomposition, many readers: each operator kind as primitive layers, known here alone.

MACs, parameters, bytes, the torch module (`latency.modules`) and the exported graph
(`devices.export.onnx_model`) all read these layers, so that the operator measured is the operator
searched is the operator deployed. A new kind is one function in `KINDS`.

Layers name their inputs, so a kind may branch and join (residual, squeeze-excite, and the
nested copy/split/add cells of tree-structured spaces):

    mbconv, stride 1, equal channels           input ──┬─ expand ─ depthwise ─ project ─ add
                                                       └────────────────────────────────┘
"""

from collections.abc import Callable

from latency.errors import SpecError
from latency.operators.fields import OpFields
from latency.operators.layer import INPUT, OTHER, Chain, Layer, Shape
from latency.operators.trees import Tree, add_tree, hidden_channels

CHANNELS_LAST = ("matmul", "layer_norm", "softmax")
"""Layers that work along the channels, which runtimes have last there."""

STANDS_ALONE = ("transpose", "reorder")
"""Kinds of operators that are in no chain with others, as those with a second input are not."""

ACTIVATIONS = ("none", "relu", "relu6", "h_swish", "h_sigmoid", "silu", "sigmoid", "gelu")


def decompose(op: OpFields) -> tuple[Layer, ...]:
    """The layers of an operator, in an order in which they can be executed."""
    return KINDS[op.kind](op)


def check(op: OpFields) -> None:
    """Raise `SpecError` where the operator's sizes contradict its kind."""
    if op.groups != 1 and op.kind not in ("conv", "conv_add", "tree"):
        raise SpecError(f"{op.key}: only a convolution has groups and dilation")
    if op.dilation != 1 and op.kind not in ("conv", "conv_add", "sepconv"):
        raise SpecError(f"{op.key}: only a convolution has groups and dilation")
    if op.in_channels % op.groups or op.out_channels % op.groups:
        raise SpecError(f"{op.key}: the groups do not divide the channels")
    if op.kind in _KEEP_CHANNELS and op.out_channels != op.in_channels:
        raise SpecError(f"{op.key}: a {op.kind} keeps its channels")
    if op.kind == "pool" and op.kernel > min(op.height, op.width):
        raise SpecError(f"{op.key}: the pooling window is larger than the input")
    padded = 2 * ((op.kernel - 1) // 2) + min(op.height, op.width)
    if op.kind == "max_pool" and op.kernel > padded:
        raise SpecError(f"{op.key}: the pooling window is larger than the padded input")
    if op.kind in _POINTWISE and (op.kernel, op.stride) != (1, 1):
        raise SpecError(f"{op.key}: a {op.kind} has neither kernel nor stride")
    if op.kind == "resize" and op.kernel != 1:
        raise SpecError(f"{op.key}: a resize has no kernel")
    if op.kind == "conv_transpose" and op.stride == 1 and op.kernel % 2 == 0:
        raise SpecError(f"{op.key}: a transposed convolution of stride 1 has an odd kernel")
    if op.kind == "linear" and (op.height, op.width, op.kernel, op.stride) != (1, 1, 1, 1):
        raise SpecError(f"{op.key}: a linear layer works on 1x1 inputs (pool first)")
    if op.kind in ("mbconv", "sepconv", "tree") and op.kernel % 2 == 0:
        raise SpecError(f"{op.key}: the kernel of a padded convolution is odd")
    if op.kind == "avg_pool" and (op.kernel % 2 == 0 or op.stride != 1):
        raise SpecError(f"{op.key}: a padded average pooling has an odd kernel and stride 1")
    if op.kind == "tree" or op.tree:
        _check_tree(op)
    if op.kind == "concat" and op.out_channels <= op.in_channels:
        raise SpecError(f"{op.key}: a concatenation adds channels")
    if op.kind == "slice" and op.out_channels > op.in_channels:
        raise SpecError(f"{op.key}: a slice has no more channels than its input")
    if op.kind == "activation" and op.activation == "none":
        raise SpecError(f"{op.key}: an activation names its function")


def _check_tree(op: OpFields) -> None:
    if op.kind != "tree":
        raise SpecError(f"{op.key}: a {op.kind} has no tree")
    Tree.parse(op.tree)
    if hidden_channels(op) % op.groups:
        raise SpecError(f"{op.key}: the groups do not divide the {hidden_channels(op)} channels")
    if op.height % op.stride or op.width % op.stride:
        raise SpecError(f"{op.key}: the stride of a tree divides its input's height and width")
    if op.in_channels > op.out_channels:
        raise SpecError(f"{op.key}: a tree has no fewer channels than its input")


def other_shape(op: OpFields) -> Shape | None:
    """Shape of the operator's second input, None where it has just one."""
    if op.kind in ("add", "multiply"):
        return (op.height, op.width, op.in_channels)
    if op.kind == "scale":
        return (1, 1, op.in_channels)
    if op.kind == "concat":
        return (op.height, op.width, op.out_channels - op.in_channels)
    if op.kind == "conv_add":
        return op.out_shape
    return None


def _conv(op: OpFields) -> tuple[Layer, ...]:
    """Convolution, batch norm, activation."""
    chain = _start(op)
    chain.conv(
        "conv",
        op.out_channels,
        op.kernel,
        op.stride,
        op.groups,
        activation=op.activation,
        dilation=op.dilation,
    )
    return chain.layers


def _conv_add(op: OpFields) -> tuple[Layer, ...]:
    """Convolution and batch norm, added to a second input; activation."""
    chain = _start(op)
    chain.conv("conv", op.out_channels, op.kernel, op.stride, op.groups, dilation=op.dilation)
    chain.join("add", "add", OTHER, op.activation)
    return chain.layers


def _conv_transpose(op: OpFields) -> tuple[Layer, ...]:
    """Transposed convolution that enlarges its input `stride` times; activation."""
    chain = _start(op)
    shape = (op.height * op.stride, op.width * op.stride, op.out_channels)
    chain.primitive("conv_transpose", shape, op.kernel, op.stride, op.activation)
    return chain.layers


def _mbconv(op: OpFields) -> tuple[Layer, ...]:
    """Inverted bottleneck (Sandler et al., MobileNetV2, CVPR 2018): expansion 1x1 (left out
    where the ratio is 1), depthwise kxk, optional squeeze-excite, linear projection 1x1, and
    the residual where input and output have one shape."""
    chain = _start(op)
    hidden = max(1, round(op.in_channels * op.expansion))
    if hidden != op.in_channels:
        chain.conv("expand", hidden, activation=op.activation)
    squeezed = max(1, round(hidden * op.squeeze_excite)) if op.squeeze_excite else 0
    chain.conv("depthwise", hidden, op.kernel, op.stride, groups=hidden, activation=op.activation)
    if squeezed:
        chain.squeeze_excite(squeezed)
    chain.conv("project", op.out_channels)
    if op.stride == 1 and op.in_channels == op.out_channels:
        chain.join("add", "add", INPUT, droppable=1)
    return chain.layers


def _pool(op: OpFields) -> tuple[Layer, ...]:
    """Average pooling without padding; a window of the input's size is global pooling."""
    chain = _start(op)
    chain.pool("pool", (op.kernel, op.kernel), op.stride, op.activation)
    return chain.layers


def _linear(op: OpFields) -> tuple[Layer, ...]:
    """Fully connected layer with bias."""
    chain = _start(op)
    chain.linear("linear", op.out_channels, op.activation)
    return chain.layers


def _padded_pool(op: OpFields) -> tuple[Layer, ...]:
    """Max or average pooling, padded by half of what the kernel has more than one pixel."""
    chain = _start(op)
    chain.padded_pool(op.kind, op.kernel, op.stride, op.activation)
    return chain.layers


def _sepconv(op: OpFields) -> tuple[Layer, ...]:
    """Norm, activation, depthwise and pointwise convolution: an edge of tree-structured cells."""
    chain = _start(op)
    chain.separable(op.out_channels, op.kernel, op.stride, op.activation, op.dilation)
    return chain.layers


def _tree(op: OpFields) -> tuple[Layer, ...]:
    """A residual block around a tree-structured cell (`latency.operators.trees`)."""
    chain = _start(op)
    add_tree(chain, op)
    return chain.layers


def _resize(op: OpFields) -> tuple[Layer, ...]:
    """Nearest neighbours, to `stride` times height and width."""
    chain = _start(op)
    shape = (op.height * op.stride, op.width * op.stride, op.in_channels)
    chain.primitive("resize", shape, 1, op.stride, op.activation)
    return chain.layers


def _join(kind: str) -> Callable[[OpFields], tuple[Layer, ...]]:
    """Two inputs into one, by the layer `kind`; activation."""

    def decompose_join(op: OpFields) -> tuple[Layer, ...]:
        chain = _start(op)
        chain.join(kind, kind, OTHER, op.activation, op.out_channels)
        return chain.layers

    return decompose_join


def _pointwise(kind: str) -> Callable[[OpFields], tuple[Layer, ...]]:
    """One layer of `kind` that keeps height and width; activation."""

    def decompose_pointwise(op: OpFields) -> tuple[Layer, ...]:
        chain = _start(op)
        shape = (op.height, op.width, op.out_channels)
        chain.primitive(kind, shape, activation=op.activation)
        return chain.layers

    return decompose_pointwise


_KEEP_CHANNELS = (
    *("pool", "max_pool", "avg_pool", "activation", "add", "multiply", "scale", "norm"),
    *("layer_norm", "transpose", "resize", "softmax", "reorder"),
)

_POINTWISE = (
    *("matmul", "activation", "add", "multiply", "scale", "norm", "layer_norm", "concat"),
    *("slice", "transpose", "softmax", "reorder"),
)

KINDS: dict[str, Callable[[OpFields], tuple[Layer, ...]]] = {
    "conv": _conv,
    "mbconv": _mbconv,
    "pool": _pool,
    "linear": _linear,
    "conv_add": _conv_add,
    "conv_transpose": _conv_transpose,
    "matmul": _pointwise("matmul"),
    "max_pool": _padded_pool,
    "avg_pool": _padded_pool,
    "sepconv": _sepconv,
    "tree": _tree,
    "activation": _pointwise("identity"),
    "add": _join("add"),
    "multiply": _join("multiply"),
    "scale": _join("multiply"),
    "norm": _pointwise("norm"),
    "layer_norm": _pointwise("layer_norm"),
    "concat": _join("concat"),
    "slice": _pointwise("slice"),
    "transpose": _pointwise("transpose"),
    "resize": _resize,
    "softmax": _pointwise("softmax"),
    "reorder": _pointwise("reorder"),
}
"""Operator kind to the function that decomposes it."""


def _start(op: OpFields) -> Chain:
    return Chain((op.height, op.width, op.in_channels))
