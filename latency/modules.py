"""Operators as torch modules: what is trained, and its weights with batch norm folded."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latency.errors import SpecError
from latency.operators.kinds import INPUT, OTHER, Layer, other_shape
from latency.operators.spec import OpSpec
from latency.torch_layers import activation, form_of

_WEIGHTED = nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.LayerNorm


class LayerModule(nn.Module):
    """A layer with its batch norm and activation. Takes (batch, channels, height, width), or two
    such tensors for `add`, `multiply` and `concat`. Raises `SpecError` if only runtimes have such a
    layer."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        form = form_of(layer)
        self.core = form.core(layer)
        self.norm = nn.BatchNorm2d(layer.out_shape[2]) if layer.norm else nn.Identity()
        self._compute = form.compute(layer)
        self._activate = activation(layer.activation, in_place=not form.may_return_input)

    def forward(self, *inputs: Tensor) -> Tensor:
        core = self.core
        if isinstance(core, nn.BatchNorm2d):
            return self._activate(core(*inputs))
        weights = (core.weight, core.bias) if isinstance(core, _WEIGHTED) else ()
        return self._activate(self.norm(self._compute(*weights, *inputs)))

    def folded(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight and bias of the layer as deployed: batch norm in evaluation mode multiplied
        into them."""
        norm, core = self.norm, self.core
        bias = torch.zeros(self.layer.out_shape[2]).double()
        if isinstance(core, nn.BatchNorm2d):
            norm, weight = core, torch.ones_like(bias)
        else:
            assert isinstance(core, _WEIGHTED)
            weight = core.weight.detach().double()
            bias = bias if core.bias is None else core.bias.detach().double()
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
            weight = weight.to(scale.device) * scale.reshape(-1, *[1] * (weight.dim() - 1))
            bias = (bias.to(scale.device) - norm.running_mean) * scale + norm.bias.detach()
        return weight.float().cpu().numpy(), bias.float().cpu().numpy()


class OperatorModule(nn.Module):
    """An operator as a torch module that executes its layers.

    Takes (batch, in_channels, height, width) and returns (batch, out_channels, out_height,
    out_width); a linear operator flattens its input and returns (batch, out_channels), a
    `transpose` returns (batch, height, width, channels). `other`: the second input of an operator
    that has one, of `other_shape`, channels first as well. `replaced`: functions to run instead of
    layers, by the layers' names.
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
                raise SpecError(f"{self.op.key} needs a second input, `other`")
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
        module = self.get_submodule(f"{position}.layers.{layer_name}")
        assert isinstance(module, LayerModule)
        return module.folded()
