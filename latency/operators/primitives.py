"""Operators of one layer (a convolution may be followed by a sum): what each consists of, and what
its sizes must be."""

from collections.abc import Callable

from latency.errors import SpecError
from latency.operators.chain import Chain
from latency.operators.fields import OpFields
from latency.operators.layer import OTHER, Layer


def decompose_conv(op: OpFields) -> tuple[Layer, ...]:
    """Convolution, batch norm, activation."""
    chain = Chain.of(op)
    _append_conv(chain, op, op.activation)
    return chain.layers


def decompose_conv_add(op: OpFields) -> tuple[Layer, ...]:
    """Convolution and batch norm, added to a second input; activation."""
    chain = Chain.of(op)
    _append_conv(chain, op, "none")
    chain.join("add", "add", OTHER, op.activation)
    return chain.layers


def _append_conv(chain: Chain, op: OpFields, activation: str) -> None:
    chain.conv(
        "conv",
        op.out_channels,
        op.kernel,
        op.stride,
        op.groups,
        activation=activation,
        dilation=op.dilation,
    )


def decompose_conv_transpose(op: OpFields) -> tuple[Layer, ...]:
    """Transposed convolution that enlarges its input `stride` times; activation."""
    chain = Chain.of(op)
    shape = (op.height * op.stride, op.width * op.stride, op.out_channels)
    chain.primitive("conv_transpose", shape, op.kernel, op.stride, op.activation)
    return chain.layers


def check_conv_transpose(op: OpFields) -> None:
    if op.stride == 1 and op.kernel % 2 == 0:
        raise SpecError(f"{op.key}: a transposed convolution of stride 1 has an odd kernel")


def decompose_pool(op: OpFields) -> tuple[Layer, ...]:
    """Average pooling without padding; a window of the input's size is global pooling."""
    chain = Chain.of(op)
    chain.pool("pool", (op.kernel, op.kernel), op.stride, op.activation)
    return chain.layers


def check_pool(op: OpFields) -> None:
    if op.kernel > min(op.height, op.width):
        raise SpecError(f"{op.key}: the pooling window is larger than the input")


def decompose_padded_pool(op: OpFields) -> tuple[Layer, ...]:
    """Max or average pooling, padded by half of what the kernel has more than one pixel."""
    chain = Chain.of(op)
    chain.padded_pool(op.kind, op.kernel, op.stride, op.activation)
    return chain.layers


def check_max_pool(op: OpFields) -> None:
    if op.kernel > 2 * ((op.kernel - 1) // 2) + min(op.height, op.width):
        raise SpecError(f"{op.key}: the pooling window is larger than the padded input")


def check_avg_pool(op: OpFields) -> None:
    if op.kernel % 2 == 0 or op.stride != 1:
        raise SpecError(f"{op.key}: a padded average pooling has an odd kernel and stride 1")


def decompose_linear(op: OpFields) -> tuple[Layer, ...]:
    """Fully connected layer with bias."""
    chain = Chain.of(op)
    chain.linear("linear", op.out_channels, op.activation)
    return chain.layers


def check_linear(op: OpFields) -> None:
    if (op.height, op.width, op.kernel, op.stride) != (1, 1, 1, 1):
        raise SpecError(f"{op.key}: a linear layer works on 1x1 inputs (pool first)")


def decompose_resize(op: OpFields) -> tuple[Layer, ...]:
    """Nearest neighbours, to `stride` times height and width."""
    chain = Chain.of(op)
    shape = (op.height * op.stride, op.width * op.stride, op.in_channels)
    chain.primitive("resize", shape, 1, op.stride, op.activation)
    return chain.layers


def check_resize(op: OpFields) -> None:
    if op.kernel != 1:
        raise SpecError(f"{op.key}: a resize has no kernel")


def check_activation(op: OpFields) -> None:
    if op.activation == "none":
        raise SpecError(f"{op.key}: an activation names its function")


def check_concat(op: OpFields) -> None:
    if op.out_channels <= op.in_channels:
        raise SpecError(f"{op.key}: a concatenation adds channels")


def check_slice(op: OpFields) -> None:
    if op.out_channels > op.in_channels:
        raise SpecError(f"{op.key}: a slice has no more channels than its input")


def joining(layer: str) -> Callable[[OpFields], tuple[Layer, ...]]:
    """Two inputs into one, by a layer of this kind; activation."""

    def decompose_join(op: OpFields) -> tuple[Layer, ...]:
        chain = Chain.of(op)
        chain.join(layer, layer, OTHER, op.activation, op.out_channels)
        return chain.layers

    return decompose_join


def pointwise(layer: str) -> Callable[[OpFields], tuple[Layer, ...]]:
    """One layer of this kind that keeps height and width; activation."""

    def decompose_pointwise(op: OpFields) -> tuple[Layer, ...]:
        chain = Chain.of(op)
        shape = (op.height, op.width, op.out_channels)
        chain.primitive(layer, shape, activation=op.activation)
        return chain.layers

    return decompose_pointwise
