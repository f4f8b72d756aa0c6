"""Operators made of convolutions: the convolution itself, with a sum behind it, the inverted
bottleneck, and the separable convolution of tree-structured cells."""

from latency.operators.chain import Chain
from latency.operators.fields import OpFields
from latency.operators.layer import INPUT, OTHER


def append_conv(chain: Chain, op: OpFields, activation: str | None = None) -> None:
    """Convolution, batch norm, activation."""
    activation = op.activation if activation is None else activation
    traits = {"groups": op.groups, "dilation": op.dilation, "activation": activation}
    chain.conv("conv", op.out_channels, op.kernel, op.stride, **traits)


def append_conv_add(chain: Chain, op: OpFields) -> None:
    """Convolution and batch norm, added to a second input; activation."""
    append_conv(chain, op, "none")
    chain.append("add", "add", chain.shape, OTHER, activation=op.activation)


def expanded_channels(op: OpFields) -> int:
    """Hidden channels of an inverted bottleneck: `expansion` times its input channels."""
    return max(1, round(op.in_channels * op.expansion))


def has_residual(op: OpFields) -> bool:
    """Whether an inverted bottleneck adds its input to its output."""
    return op.stride == 1 and op.in_channels == op.out_channels


def append_mbconv(chain: Chain, op: OpFields) -> None:
    """Inverted bottleneck (Sandler et al., MobileNetV2, CVPR 2018): expansion 1x1 (left out where
    the ratio is 1), depthwise kxk, optional squeeze-excite, linear projection 1x1, and the residual
    where input and output have the same shape."""
    hidden = expanded_channels(op)
    if hidden != op.in_channels:
        chain.conv("expand", hidden, activation=op.activation)
    traits = {"groups": hidden, "activation": op.activation}
    chain.conv("depthwise", hidden, op.kernel, op.stride, **traits)
    if op.squeeze_excite:
        chain.squeeze_excite(max(1, round(hidden * op.squeeze_excite)))
    chain.conv("project", op.out_channels)
    if has_residual(op):
        chain.append("add", "add", chain.shape, INPUT, droppable=1)


def append_sepconv(chain: Chain, op: OpFields) -> None:
    """Norm, activation, depthwise and pointwise convolution: an edge of tree-structured cells."""
    chain.separable(op.out_channels, op.kernel, op.stride, op.activation, op.dilation)
