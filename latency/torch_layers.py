"""How torch computes each kind of layer, and the module that holds its parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from latency.errors import SpecError
from latency.operators.kinds import Layer

Compute = Callable[..., Tensor]
"""(input, ...) -> output, without activation. Of a layer with a weight: (weight, bias, input) ->
output, where a convolution's bias may be None; of `norm`: (mean, variance, weight, bias, input)."""


@dataclass(frozen=True)
class Form:
    """How torch computes a kind of layer.

    `compute`: the layer before its activation. `core`: the module that holds its parameters.
    `may_return_input`: the output may be a view of the input, so that its activation is not
    computed in place.
    """

    compute: Callable[[Layer], Compute]
    core: Callable[[Layer], nn.Module] = lambda layer: nn.Identity()
    may_return_input: bool = False


def form_of(layer: Layer) -> Form:
    """How torch computes a layer; `SpecError` if only a runtime has it."""
    if layer.kind not in _FORMS:
        raise SpecError(f"layer {layer.name}: a '{layer.kind}' exists in runtimes only")
    return _FORMS[layer.kind]


def deployed(
    layer: Layer,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    layout: torch.memory_format = torch.contiguous_format,
) -> Compute:
    """The layer as a runtime executes it: a function of its inputs, which it does not change.

    `weight`, `bias`: with batch norm folded, as `LayerModule.folded` returns them; None if the
    layer has none. A slice is copied into `layout`, and a transposition is carried out. Raises
    `SpecError` if torch has no such layer.
    """
    compute = form_of(layer).compute(layer)
    if layer.kind == "norm":
        assert bias is not None
        compute = partial(compute, torch.zeros_like(bias), torch.ones_like(bias))
    if layer.weight_shape:
        compute = partial(compute, weight, bias)
    if layer.kind == "slice":
        compute = _copied(compute, layout)
    if layer.kind == "transpose":
        compute = _copied(compute, torch.contiguous_format)
    if layer.activation == "none":
        return compute
    activate = activation(layer.activation, in_place=not layer.traits.is_identity)
    return lambda *inputs: activate(compute(*inputs))


def _copied(view: Compute, layout: torch.memory_format) -> Compute:
    return lambda x: view(x).clone(memory_format=layout)


def activation(name: str, in_place: bool) -> Callable[[Tensor], Tensor]:
    """An activation function; it may overwrite its input if `in_place`."""
    if in_place and name in _IN_PLACE:
        return _IN_PLACE[name]
    return _ACTIVATIONS[name]


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu,
    "relu6": lambda x: functional.hardtanh(x, 0.0, 6.0),
    "h_swish": functional.hardswish,
    "h_sigmoid": functional.hardsigmoid,
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
}
_IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "relu6": lambda x: functional.hardtanh_(x, 0.0, 6.0),
}


def _conv(layer: Layer) -> Compute:
    top, left, bottom, right = layer.padding
    stride, dilation, groups = layer.stride, layer.dilation, layer.groups
    if (top, left) == (bottom, right):
        padding = (top, left)
        return lambda weight, bias, x: torch.conv2d(
            x, weight, bias, stride, padding, dilation, groups
        )
    around = (left, right, top, bottom)
    return lambda weight, bias, x: torch.conv2d(
        functional.pad(x, around), weight, bias, stride, 0, dilation, groups
    )


def _conv_core(layer: Layer) -> nn.Module:
    bias = layer.bias and not layer.norm
    inside, outside = layer.in_shape[2], layer.out_shape[2]
    return nn.Conv2d(inside, outside, layer.kernel, groups=layer.groups, bias=bias)


def _conv_transpose(layer: Layer) -> Compute:
    before, after = layer.trimming
    stride, added = layer.stride, before - after
    return lambda weight, bias, x: torch.conv_transpose2d(x, weight, bias, stride, before, added)


def _max_pool(layer: Layer) -> Compute:
    kernel, stride, padding = layer.kernel, layer.stride, (layer.kernel[0] - 1) // 2
    return lambda x: functional.max_pool2d(x, kernel, stride, padding)


def _avg_pool(layer: Layer) -> Compute:
    kernel, stride, padding = layer.kernel, layer.stride, layer.padding[:2]
    return lambda x: functional.avg_pool2d(x, kernel, stride, padding, count_include_pad=False)


def _slice(layer: Layer) -> Compute:
    start, end = layer.start, layer.start + layer.out_shape[2]
    return lambda x: x[:, start:end]


def _linear(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return functional.linear(x.flatten(1), weight, bias)


def _norm(mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, variance, weight, bias, eps=0.0)


def _to_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _to_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _layer_norm(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return _to_first(functional.layer_norm(_to_last(x), weight.shape, weight, bias))


def _matmul(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return _to_first(functional.linear(_to_last(x), weight, bias))


def _matrix(layer: Layer) -> nn.Module:
    return nn.Linear(layer.in_shape[2], layer.out_shape[2])


_FORMS = {
    "conv": Form(_conv, _conv_core),
    "conv_transpose": Form(
        _conv_transpose,
        lambda layer: nn.ConvTranspose2d(layer.in_shape[2], layer.out_shape[2], layer.kernel),
    ),
    "linear": Form(lambda _: _linear, _matrix),
    "matmul": Form(lambda _: _matmul, _matrix),
    "pool": Form(
        lambda layer: partial(functional.avg_pool2d, kernel_size=layer.kernel, stride=layer.stride)
    ),
    "max_pool": Form(_max_pool),
    "avg_pool": Form(_avg_pool),
    "norm": Form(lambda _: _norm, lambda layer: nn.BatchNorm2d(layer.out_shape[2])),
    "layer_norm": Form(lambda _: _layer_norm, lambda layer: nn.LayerNorm(layer.out_shape[2])),
    "softmax": Form(lambda _: lambda x: _to_first(_to_last(x).softmax(-1))),
    "add": Form(lambda _: torch.add),
    "multiply": Form(lambda _: torch.mul),
    "concat": Form(lambda _: lambda x, other: torch.cat((x, other), 1)),
    "slice": Form(_slice, may_return_input=True),
    "pad": Form(
        lambda layer: partial(
            functional.pad, pad=(0, 0, 0, 0, 0, layer.out_shape[2] - layer.in_shape[2])
        ),
        may_return_input=True,
    ),
    "shuffle": Form(
        lambda layer: partial(torch.channel_shuffle, groups=layer.groups), may_return_input=True
    ),
    "transpose": Form(lambda _: _to_last, may_return_input=True),
    "resize": Form(lambda layer: partial(functional.interpolate, scale_factor=layer.stride)),
    "identity": Form(lambda _: lambda x: x, may_return_input=True),
}
"""The form of each kind of layer; only runtimes have the other kinds."""
