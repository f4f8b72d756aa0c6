"""PyTorch: layers executed one by one on the CPU, or captured into a graph on a CUDA device."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from devices.card import DeviceCard
from devices.export.onnx_model import Weights, check_chain, is_channels_last
from latency.errors import SpecError
from latency.operators.spec import OpSpec


@dataclass(frozen=True)
class TorchEager:
    """The host's side of PyTorch; the device's side is in `devices.agent`.

    A model file is an .npz: "network", a JSON object with the keys of the operators, and each
    layer's folded weight and bias, "position.layer.weight" and "position.layer.bias". It is read
    without unpickling anything; both sides read the layers of an operator from
    `latency.operators.kinds`.
    """

    card: DeviceCard
    suffix = ".npz"

    @property
    def options(self) -> str:
        """Provider, launch mode, layout of activations."""
        card = self.card
        launch = "cuda-graph" if card.provider == "cuda" and card.cuda_graph else "eager"
        layout = "channels-last" if card.channels_last else "contiguous"
        return f"provider={card.provider} launch={launch} layout={layout} malloc=kept"

    def build(self, ops: Sequence[OpSpec], weights: Weights, name: str) -> bytes:
        """A chain of operators, with the weights of their layers; `SpecError` as in
        `devices.export.onnx_model.onnx_model`."""
        check_chain(ops)
        header = {
            "name": name,
            "operators": [op.key for op in ops],
            "channels_last": is_channels_last(ops),
        }
        content = np.frombuffer(json.dumps(header).encode(), np.uint8)
        arrays: dict[str, np.ndarray] = {}
        for position, op in enumerate(ops):
            for layer in op.layers:
                layer_name = f"{position}.{layer.name}"
                if layer.kind == "reorder":
                    raise SpecError(
                        f"layer {layer_name}: PyTorch has no reordering to a layout of its own"
                    )
                if layer.weight_shape:
                    weight, bias = weights(layer_name, layer)
                    arrays[f"{layer_name}.weight"] = weight
                    arrays[f"{layer_name}.bias"] = bias
        file = io.BytesIO()
        np.savez(file, network=content, **arrays)  # type: ignore[arg-type]
        return file.getvalue()

    def named(self, ops: Sequence[OpSpec], nodes: Mapping[str, float]) -> Mapping[str, float]:
        """Unchanged: its nodes have the names of the file."""
        return nodes
