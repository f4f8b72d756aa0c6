"""Layers to torch: the module that is trained, and its weights with batch norm folded."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latency.errors import SpecError
from latency.layers import CHANNELS_LAST, INPUT, OTHER, Layer, other_shape
from latency.ops import OpSpec

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "h_swish": nn.Hardswish,
    "h_sigmoid": nn.Hardsigmoid,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
}

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
        self.activation = _ACTIVATIONS[layer.activation]()
        if isinstance(self.activation, nn.ReLU | nn.ReLU6):
            self.activation.inplace = layer.kind not in _VIEWS

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.activation(self.norm(self._computed(*inputs)))

    def _computed(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        kind = self.layer.kind
        if other is not None:
            return _JOINS[kind](x, other)
        if kind == "linear":
            return self.core(x.flatten(1))
        if kind in CHANNELS_LAST:
            return self.core(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if kind == "transpose":
            return x.permute(0, 2, 3, 1)
        if kind == "slice":
            return x[:, self.layer.start : self.layer.start + self.layer.out_shape[2]]
        if kind == "pad":
            return nn.functional.pad(x, (0, 0, 0, 0, 0, self.layer.out_shape[2] - x.shape[1]))
        if kind == "shuffle":
            return x.unflatten(1, (self.layer.groups, -1)).transpose(1, 2).flatten(1, 2)
        if kind == "conv" and not _is_even(self.layer.padding):
            top, left, bottom, right = self.layer.padding
            x = nn.functional.pad(x, (left, right, top, bottom))
        return self.core(x)

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
"""Layers without a module of their own, which may return their input, or a part of it: no place
for another one's output."""

_JOINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "multiply": torch.mul,
    "concat": lambda x, other: torch.cat((x, other), 1),
}


def _is_even(padding: tuple[int, int, int, int]) -> bool:
    return padding[:2] == padding[2:]


def _core(layer: Layer) -> nn.Module:
    inside, outside = layer.in_shape[2], layer.out_shape[2]
    if layer.kind == "conv":
        return nn.Conv2d(
            inside,
            outside,
            layer.kernel,
            layer.stride,
            layer.padding[:2] if _is_even(layer.padding) else 0,
            layer.dilation,
            layer.groups,
            bias=layer.bias and not layer.norm,
        )
    if layer.kind == "conv_transpose":
        before, after = layer.trimming
        return nn.ConvTranspose2d(
            inside, outside, layer.kernel, layer.stride, before, before - after
        )
    if layer.kind in ("linear", "matmul"):
        return nn.Linear(inside, outside)
    if layer.kind == "pool":
        return nn.AvgPool2d(layer.kernel, layer.stride)
    if layer.kind == "max_pool":
        return nn.MaxPool2d(layer.kernel, layer.stride, (layer.kernel[0] - 1) // 2)
    if layer.kind == "avg_pool":
        padding = layer.padding[:2]
        return nn.AvgPool2d(layer.kernel, layer.stride, padding, count_include_pad=False)
    if layer.kind == "norm":
        return nn.BatchNorm2d(outside)
    if layer.kind == "layer_norm":
        return nn.LayerNorm(outside)
    if layer.kind == "resize":
        return nn.Upsample(scale_factor=layer.stride)
    if layer.kind == "softmax":
        return nn.Softmax(-1)
    if layer.kind in (*_JOINS, *_VIEWS):
        return nn.Identity()
    raise SpecError(f"layer {layer.name}: a '{layer.kind}' exists in runtimes only")


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
        """Deployed weight and bias of the layer "position.layer", for `devices.export`."""
        position, _, layer_name = name.partition(".")
        operator = self[int(position)]
        assert isinstance(operator, OperatorModule)
        module = operator.layers[layer_name]
        assert isinstance(module, LayerModule)
        return module.folded()
