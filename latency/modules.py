"""Layers to torch: the module that is trained, and its weights with batch norm folded."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latency.layers import INPUT, Layer
from latency.ops import OpSpec

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "h_swish": nn.Hardswish,
    "h_sigmoid": nn.Hardsigmoid,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}


class LayerModule(nn.Module):
    """A layer with its batch norm and activation. Input (batch, channels, height, width), or
    two of them for `add` and `multiply`."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        self.core: nn.Module = _core(layer)
        self.norm = nn.BatchNorm2d(layer.out_shape[2]) if layer.norm else nn.Identity()
        self.activation = _ACTIVATIONS[layer.activation]()

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.layer.kind == "add":
            return inputs[0] + inputs[1]
        if self.layer.kind == "multiply":
            return inputs[0] * inputs[1]
        x = inputs[0].flatten(1) if self.layer.kind == "linear" else inputs[0]
        return self.activation(self.norm(self.core(x)))

    def folded(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight and bias of the convolution or linear layer as deployed: batch norm in
        evaluation mode multiplied into them."""
        assert isinstance(self.core, nn.Conv2d | nn.Linear)
        weight = self.core.weight.detach().double()
        bias = torch.zeros(len(weight)) if self.core.bias is None else self.core.bias.detach()
        bias = bias.double()
        if isinstance(self.norm, nn.BatchNorm2d):
            assert self.norm.running_mean is not None
            assert self.norm.running_var is not None
            scale = self.norm.weight.detach() / (self.norm.running_var + self.norm.eps).sqrt()
            weight = weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
            bias = (bias - self.norm.running_mean) * scale + self.norm.bias.detach()
        return weight.float().numpy(), bias.float().numpy()


def _core(layer: Layer) -> nn.Module:
    if layer.kind == "conv":
        return nn.Conv2d(
            layer.in_shape[2],
            layer.out_shape[2],
            layer.kernel,
            layer.stride,
            (layer.kernel[0] // 2, layer.kernel[1] // 2),
            groups=layer.groups,
            bias=not layer.norm,
        )
    if layer.kind == "linear":
        return nn.Linear(layer.in_shape[2], layer.out_shape[2])
    if layer.kind == "pool":
        return nn.AvgPool2d(layer.kernel, layer.stride)
    return nn.Identity()


class OperatorModule(nn.Module):
    """An operator as a torch module that executes its layers.

    (batch, in_channels, height, width) to (batch, out_channels, out_height, out_width); a linear
    operator flattens its input and returns (batch, out_channels).
    """

    def __init__(self, op: OpSpec) -> None:
        super().__init__()
        self.op = op
        self.layers = nn.ModuleDict({layer.name: LayerModule(layer) for layer in op.layers})

    def forward(self, x: Tensor) -> Tensor:
        values = {INPUT: x}
        for layer in self.op.layers:
            values[layer.name] = self.layers[layer.name](*(values[i] for i in layer.inputs))
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
