"""PyTorch: layers executed one by one on the CPU, or captured into a graph on a CUDA device."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from devices.card import DeviceCard
from devices.export import Weights
from latency.layers import INPUT, Layer
from latency.ops import OpSpec


class TorchEager:
    """The host's half of PyTorch; the device's half is in `devices.agent`.

    A model file is an .npz: "layers", a JSON list in order of execution, and each layer's
    folded weight and bias. It is read without unpickling anything.
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
        """The layers of a chain of operators, with their weights."""
        described: list[dict[str, Any]] = []
        arrays: dict[str, np.ndarray] = {}
        current = INPUT
        for position, op in enumerate(ops):
            names = {INPUT: current}
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
        shape = [first.batch, first.in_channels, first.height, first.width]
        header = json.dumps({"name": name, "input": shape, "layers": described})
        file = io.BytesIO()
        np.savez(file, layers=np.frombuffer(header.encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        return file.getvalue()


def _describe(layer: Layer, name: str, inputs: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "kind": layer.kind,
        "inputs": inputs,
        "kernel": list(layer.kernel),
        "stride": layer.stride,
        "padding": [size // 2 for size in layer.kernel],
        "groups": layer.groups,
        "activation": layer.activation,
    }
