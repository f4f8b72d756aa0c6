"""How torch has each kind of layer: what computes it, and what holds its parameters."""

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
    """How torch has a kind of layer.

    `compute`: the layer before its activation. `core`: what holds its parameters.
    `may_return_input`: the output may be the input or a part of it, which no activation may
    overwrite. `copied_to`: the layout that a deployed layer copies such a view to;
    `torch.preserve_format` for the model's. `statistics`: of a deployed `norm`, mean and variance,
    from its bias.
    """

    compute: Callable[[Layer], Compute]
    core: Callable[[Layer], nn.Module] = lambda layer: nn.Identity()
    may_return_input: bool = False
    copied_to: torch.memory_format | None = None
    statistics: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None


def form_of(layer: Layer) -> Form:
    """How torch has a layer; `SpecError` where only a runtime has it."""
    if layer.kind not in _FORMS:
        raise SpecError(f"layer {layer.name}: a '{layer.kind}' exists in runtimes only")
    return _FORMS[layer.kind]


def deployed(
    layer: Layer,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    layout: torch.memory_format = torch.contiguous_format,
) -> Compute:
    """The layer as a runtime executes it: a function of its inputs that keeps them as they are.

    `weight`, `bias`: with batch norm folded, as `LayerModule.folded` returns them; None where the
    layer has none. A slice is copied into `layout`, and a transposition is carried out. Raises
    `SpecError` where torch has no such layer.
    """
    form = form_of(layer)
    compute = form.compute(layer)
    if form.statistics is not None:
        assert bias is not None
        compute = partial(compute, *form.statistics(bias))
    if layer.weight_shape:
        compute = partial(compute, weight, bias)
    if form.copied_to is not None:
        keeps = form.copied_to == torch.preserve_format
        compute = _copied(compute, layout if keeps else form.copied_to)
    if layer.activation == "none":
        return compute
    activate = activation(layer.activation, in_place=not layer.traits.is_identity)
    return lambda *inputs: activate(compute(*inputs))


def _copied(view: Compute, layout: torch.memory_format) -> Compute:
    return lambda x: view(x).clone(memory_format=layout)


def activation(name: str, in_place: bool) -> Callable[[Tensor], Tensor]:
    """An activation, which may overwrite its input where it is `in_place`."""
    if name == "relu6":
        clamp = functional.hardtanh_ if in_place else functional.hardtanh
        return lambda x: clamp(x, 0.0, 6.0)
    if name == "relu" and in_place:
        return torch.relu_
    return _ACTIVATIONS[name]


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu,
    "h_swish": functional.hardswish,
    "h_sigmoid": functional.hardsigmoid,
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
}


def _conv_core(layer: Layer) -> nn.Module:
    bias = layer.bias and not layer.norm
    inside, outside = layer.in_shape[2], layer.out_shape[2]
    return nn.Conv2d(inside, outside, layer.kernel, groups=layer.groups, bias=bias)


def _conv_transpose_core(layer: Layer) -> nn.Module:
    return nn.ConvTranspose2d(layer.in_shape[2], layer.out_shape[2], layer.kernel)


def _matrix(layer: Layer) -> nn.Module:
    return nn.Linear(layer.in_shape[2], layer.out_shape[2])


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


def _conv_transpose(layer: Layer) -> Compute:
    before, after = layer.trimming
    stride, added = layer.stride, before - after
    return lambda weight, bias, x: torch.conv_transpose2d(x, weight, bias, stride, before, added)


def _pool(layer: Layer) -> Compute:
    kernel, stride = layer.kernel, layer.stride
    return lambda x: functional.avg_pool2d(x, kernel, stride)


def _max_pool(layer: Layer) -> Compute:
    kernel, stride, padding = layer.kernel, layer.stride, (layer.kernel[0] - 1) // 2
    return lambda x: functional.max_pool2d(x, kernel, stride, padding)


def _avg_pool(layer: Layer) -> Compute:
    kernel, stride, padding = layer.kernel, layer.stride, layer.padding[:2]
    return lambda x: functional.avg_pool2d(x, kernel, stride, padding, count_include_pad=False)


def _layer_norm(layer: Layer) -> Compute:
    shape = (layer.out_shape[2],)
    return lambda weight, bias, x: functional.layer_norm(
        x.permute(0, 2, 3, 1), shape, weight, bias
    ).permute(0, 3, 1, 2)


def _slice(layer: Layer) -> Compute:
    start, end = layer.start, layer.start + layer.out_shape[2]
    return lambda x: x[:, start:end]


def _pad(layer: Layer) -> Compute:
    around = (0, 0, 0, 0, 0, layer.out_shape[2] - layer.in_shape[2])
    return lambda x: functional.pad(x, around)


def _shuffle(layer: Layer) -> Compute:
    groups = layer.groups
    return lambda x: torch.channel_shuffle(x, groups)


def _resize(layer: Layer) -> Compute:
    scale = layer.stride
    return lambda x: functional.interpolate(x, scale_factor=scale)


def _matmul(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return functional.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def _norm(mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, variance, weight, bias, eps=0.0)


_FORMS = {
    "conv": Form(_conv, _conv_core),
    "conv_transpose": Form(_conv_transpose, _conv_transpose_core),
    "linear": Form(
        lambda _: lambda weight, bias, x: functional.linear(x.flatten(1), weight, bias), _matrix
    ),
    "matmul": Form(lambda _: _matmul, _matrix),
    "pool": Form(_pool),
    "max_pool": Form(_max_pool),
    "avg_pool": Form(_avg_pool),
    "norm": Form(
        lambda _: _norm,
        lambda layer: nn.BatchNorm2d(layer.out_shape[2]),
        statistics=lambda bias: (torch.zeros_like(bias), torch.ones_like(bias)),
    ),
    "layer_norm": Form(_layer_norm, lambda layer: nn.LayerNorm(layer.out_shape[2])),
    "softmax": Form(
        lambda _: lambda x: x.permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2),
    ),
    "add": Form(lambda _: torch.add),
    "multiply": Form(lambda _: torch.mul),
    "concat": Form(lambda _: lambda x, other: torch.cat((x, other), 1)),
    "slice": Form(_slice, may_return_input=True, copied_to=torch.preserve_format),
    "pad": Form(_pad, may_return_input=True),
    "shuffle": Form(_shuffle, may_return_input=True),
    "transpose": Form(
        lambda _: lambda x: x.permute(0, 2, 3, 1),
        may_return_input=True,
        copied_to=torch.contiguous_format,
    ),
    "resize": Form(_resize),
    "identity": Form(lambda _: lambda x: x, may_return_input=True),
}
"""Kind of a layer to how torch has it; of the kinds that are not here only runtimes have any."""
