"""Blocks of convolutions that are one operator: the inverted bottleneck, and the separable
convolution of tree-structured cells. The block around a tree is in `latency.operators.trees`."""

from latency.operators.chain import Chain
from latency.operators.fields import OpFields
from latency.operators.layer import INPUT, Layer


def expanded_channels(op: OpFields) -> int:
    """Channels inside of an inverted bottleneck: its `expansion` is their ratio to its input
    channels."""
    return max(1, round(op.in_channels * op.expansion))


def has_residual(op: OpFields) -> bool:
    """Whether an inverted bottleneck adds its input to its output."""
    return op.stride == 1 and op.in_channels == op.out_channels


def decompose_mbconv(op: OpFields) -> tuple[Layer, ...]:
    """Inverted bottleneck (Sandler et al., MobileNetV2, CVPR 2018): expansion 1x1 (left out
    where the ratio is 1), depthwise kxk, optional squeeze-excite, linear projection 1x1, and
    the residual where input and output have one shape."""
    chain = Chain.of(op)
    hidden = expanded_channels(op)
    if hidden != op.in_channels:
        chain.conv("expand", hidden, activation=op.activation)
    squeezed = max(1, round(hidden * op.squeeze_excite)) if op.squeeze_excite else 0
    chain.conv("depthwise", hidden, op.kernel, op.stride, groups=hidden, activation=op.activation)
    if squeezed:
        chain.squeeze_excite(squeezed)
    chain.conv("project", op.out_channels)
    if has_residual(op):
        chain.join("add", "add", INPUT, droppable=1)
    return chain.layers


def decompose_sepconv(op: OpFields) -> tuple[Layer, ...]:
    """Norm, activation, depthwise and pointwise convolution: an edge of tree-structured cells."""
    chain = Chain.of(op)
    chain.separable(op.out_channels, op.kernel, op.stride, op.activation, op.dilation)
    return chain.layers
