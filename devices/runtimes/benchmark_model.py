"""TensorFlow Lite's `benchmark_model` on a phone: .tflite files, float32 or int8, by XNNPACK."""

from collections.abc import Mapping, Sequence
from typing import Any

from devices.card import DeviceCard
from devices.export.onnx_model import Weights
from devices.export.tflite_int8 import tflite_file
from devices.export.tflite_profile import named_nodes
from latency.operators.spec import OpSpec


class BenchmarkModel:
    """The host's side; the device's side is the channel that `devices.transports.adb` starts."""

    suffix = ".tflite"
    options = "delegate=xnnpack"

    def __init__(self, card: DeviceCard) -> None:
        self._card = card

    @property
    def greeting(self) -> Mapping[str, Any]:
        """The settings that the channel needs; `flags` are the tool's own."""
        return {
            "runtime": "benchmark_model",
            "threads": self._card.threads,
            "flags": {"use_xnnpack": "true"},
        }

    def build(self, ops: Sequence[OpSpec], weights: Weights, name: str) -> bytes:
        """The .tflite model of a chain of operators, in the card's precision."""
        return tflite_file(ops, weights, name, self._card.precision)

    def named(self, ops: Sequence[OpSpec], nodes: Mapping[str, float]) -> Mapping[str, float]:
        """Matches nodes to layers by the order of kinds (`devices.export.tflite_profile`)."""
        return named_nodes(ops, self._card.precision, nodes)
