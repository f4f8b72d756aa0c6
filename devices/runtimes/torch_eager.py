"""PyTorch: layers executed one by one on the CPU, or captured into a graph on a CUDA device."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from devices.card import DeviceCard
from devices.export import Weights, check_alone, is_channels_last
from latency.errors import SpecError
from latency.layers import INPUT, OTHER, Layer, other_shape
from latency.ops import OpSpec


class TorchEager:
    """The host's half of PyTorch; the device's half is in `devices.agent`.

    A model file is an .npz: "layers", a JSON object with the shapes of the inputs and the layers
    in order of execution, and each layer's folded weight and bias. It is read without unpickling
    anything.
    """

    suffix = ".npz"

    def __init__(self, card: DeviceCard) -> None:
        self._card = card

    @property
    def options(self) -> str:
        """Where it runs, how it is launched, and the layout of activations."""
        card = self._card
        launch = "cuda-graph" if card.provider == "cuda" and card.cuda_graph else "eager"
        layout = "channels-last" if card.channels_last else "contiguous"
        return f"provider={card.provider} launch={launch} layout={layout} malloc=kept"

    @property
    def greeting(self) -> Mapping[str, Any]:
        """What the agent needs to know to set the runtime up."""
        names = ("threads", "provider", "precision", "channels_last", "cuda_graph")
        return {"runtime": "torch", **{name: getattr(self._card, name) for name in names}}

    def build(self, ops: Sequence[OpSpec], weights: Weights, name: str) -> bytes:
        """The layers of a chain of operators, with their weights; `SpecError` as in
        `devices.export.onnx_model`."""
        check_alone(ops)
        described: list[dict[str, Any]] = []
        arrays: dict[str, np.ndarray] = {}
        current = INPUT
        for position, op in enumerate(ops):
            names = {INPUT: current, OTHER: OTHER}
            for layer in op.layers:
                names[layer.name] = f"{position}.{layer.name}"
                inputs = [names[source] for source in layer.inputs]
                described.append(_describe(layer, names[layer.name], inputs))
                if layer.weight_shape:
                    weight, bias = weights(names[layer.name], layer)
                    arrays[f"{names[layer.name]}.weight"] = weight
                    arrays[f"{names[layer.name]}.bias"] = bias
            current = names[op.layers[-1].name]
        first = ops[0]
        shapes = {INPUT: (first.height, first.width, first.in_channels), OTHER: other_shape(first)}
        sizes = {key: [first.batch, shape[2], *shape[:2]] for key, shape in shapes.items() if shape}
        header = json.dumps(
            {
                "name": name,
                "inputs": sizes,
                "channels_last": is_channels_last(ops),
                "layers": described,
            }
        )
        file = io.BytesIO()
        np.savez(file, layers=np.frombuffer(header.encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        return file.getvalue()

    def named(self, ops: Sequence[OpSpec], nodes: Mapping[str, float]) -> Mapping[str, float]:
        """As they are: its nodes are named as in the file."""
        return nodes


def _describe(layer: Layer, name: str, inputs: list[str]) -> dict[str, Any]:
    if layer.kind == "reorder":
        raise SpecError(f"layer {name}: PyTorch has no reordering to a layout of its own")
    return {
        "name": name,
        "kind": layer.kind,
        "inputs": inputs,
        "kernel": list(layer.kernel),
        "stride": layer.stride,
        "padding": list(layer.padding),
        "trimming": list(layer.trimming),
        "groups": layer.groups,
        "dilation": layer.dilation,
        "channels": layer.out_shape[2],
        "start": layer.start,
        "activation": layer.activation,
    }
