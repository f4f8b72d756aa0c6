"""Layers to torch: the module that is trained, its weights with batch norm folded, and the layer as
a runtime executes it. One table says how torch computes each kind of layer."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from latency.errors import SpecError
from latency.operators.kinds import INPUT, OTHER, Layer, other_shape
from latency.operators.spec import OpSpec

Compute = Callable[..., Tensor]
"""(input, ...) -> output, without activation. Of a layer with a weight: (weight, bias, input) ->
output, where a convolution's bias may be None; of `norm`: (mean, variance, weight, bias, input)."""

_WEIGHTED = nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.LayerNorm


class LayerModule(nn.Module):
    """A layer with its batch norm and activation. Input (batch, channels, height, width), or
    two of them for `add`, `multiply` and `concat`. Raises `SpecError` where only a runtime has
    such a layer."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        self.core: nn.Module = _core(layer)
        self.norm = nn.BatchNorm2d(layer.out_shape[2]) if layer.norm else nn.Identity()
        self._compute = _compute(layer)
        self._activate = _activation(layer.activation, in_place=layer.kind not in _VIEWS)

    def forward(self, *inputs: Tensor) -> Tensor:
        core = self.core
        if isinstance(core, nn.BatchNorm2d):
            return self._activate(core(*inputs))
        if isinstance(core, _WEIGHTED):
            return self._activate(self.norm(self._compute(core.weight, core.bias, *inputs)))
        return self._activate(self.norm(self._compute(*inputs)))

    def extra_repr(self) -> str:
        layer = self.layer
        return f"{layer.kind}, kernel={layer.kernel}, stride={layer.stride}, {layer.activation}"

    def folded(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight and bias of the layer as deployed: batch norm in evaluation mode multiplied
        into them."""
        if isinstance(self.core, nn.BatchNorm2d):
            ones = torch.ones(self.core.num_features).double()
            return _with_norm(ones, torch.zeros_like(ones), self.core)
        assert isinstance(self.core, _WEIGHTED)
        weight = self.core.weight.detach().double()
        size = self.layer.out_shape[2]
        bias = torch.zeros(size) if self.core.bias is None else self.core.bias.detach()
        return _with_norm(weight, bias.double(), self.norm)


def _with_norm(
    weight: Tensor, bias: Tensor, norm: nn.Module
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if isinstance(norm, nn.BatchNorm2d):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
        weight = weight.to(scale.device) * scale.reshape(-1, *[1] * (weight.dim() - 1))
        bias = (bias.to(scale.device) - norm.running_mean) * scale + norm.bias.detach()
    return weight.float().cpu().numpy(), bias.float().cpu().numpy()


_VIEWS = ("identity", "slice", "transpose", "pad", "shuffle")
"""Layers that may return their input, or a part of it: no place for another one's output."""


def _core(layer: Layer) -> nn.Module:
    """What holds the parameters of a layer."""
    inside, outside = layer.in_shape[2], layer.out_shape[2]
    if layer.kind == "conv":
        bias = layer.bias and not layer.norm
        return nn.Conv2d(inside, outside, layer.kernel, groups=layer.groups, bias=bias)
    if layer.kind == "conv_transpose":
        return nn.ConvTranspose2d(inside, outside, layer.kernel)
    if layer.kind in ("linear", "matmul"):
        return nn.Linear(inside, outside)
    if layer.kind == "norm":
        return nn.BatchNorm2d(outside)
    if layer.kind == "layer_norm":
        return nn.LayerNorm(outside)
    return nn.Identity()


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
    compute = _compute(layer)
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
    activate = _activation(layer.activation, in_place=layer.kind != "identity")
    return lambda *inputs: activate(compute(*inputs))


def _copied(view: Compute, layout: torch.memory_format) -> Compute:
    return lambda x: view(x).clone(memory_format=layout)


def _activation(name: str, in_place: bool) -> Callable[[Tensor], Tensor]:
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


def _compute(layer: Layer) -> Compute:
    """How torch computes a layer before its activation."""
    if layer.kind not in _KINDS:
        raise SpecError(f"layer {layer.name}: a '{layer.kind}' exists in runtimes only")
    return _KINDS[layer.kind](layer)


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


_KINDS: dict[str, Callable[[Layer], Compute]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": lambda _: lambda weight, bias, x: functional.linear(x.flatten(1), weight, bias),
    "matmul": lambda _: _matmul,
    "pool": _pool,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "norm": lambda _: _norm,
    "layer_norm": _layer_norm,
    "softmax": lambda _: lambda x: x.permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2),
    "add": lambda _: torch.add,
    "multiply": lambda _: torch.mul,
    "concat": lambda _: lambda x, other: torch.cat((x, other), 1),
    "slice": _slice,
    "pad": _pad,
    "shuffle": _shuffle,
    "transpose": lambda _: lambda x: x.permute(0, 2, 3, 1),
    "resize": _resize,
    "identity": lambda _: lambda x: x,
}
"""Kind of a layer to how torch computes it."""


class OperatorModule(nn.Module):
    """An operator as a torch module that executes its layers.

    (batch, in_channels, height, width) to (batch, out_channels, out_height, out_width); a linear
    operator flattens its input and returns (batch, out_channels), a `transpose` returns (batch,
    height, width, channels). `other`: the second input of an operator that has one, of
    `other_shape`, channels first as well. `replaced`: what runs instead of the layers of these
    names.
    """

    def __init__(self, op: OpSpec) -> None:
        super().__init__()
        self.op = op
        self.layers = nn.ModuleDict({layer.name: LayerModule(layer) for layer in op.layers})

    def forward(
        self,
        x: Tensor,
        other: Tensor | None = None,
        replaced: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({}),
    ) -> Tensor:
        values = {INPUT: x}
        if other_shape(self.op) is not None:
            if other is None:
                raise SpecError(f"{self.op.key} has a second input, which is not given")
            values[OTHER] = other
        for layer in self.op.layers:
            execute = replaced.get(layer.name) or self.layers[layer.name]
            values[layer.name] = execute(*(values[i] for i in layer.inputs))
        return values[self.op.layers[-1].name]


class NetworkModule(nn.Sequential):
    """A chain of operators as a torch module."""

    def __init__(self, ops: tuple[OpSpec, ...]) -> None:
        super().__init__(*(OperatorModule(op) for op in ops))

    def folded(self, name: str, layer: Layer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Deployed weight and bias of the layer "position.layer", for
        `devices.export.onnx_model`."""
        position, _, layer_name = name.partition(".")
        operator = self[int(position)]
        assert isinstance(operator, OperatorModule)
        module = operator.layers[layer_name]
        assert isinstance(module, LayerModule)
        return module.folded()
