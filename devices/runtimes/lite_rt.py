"""LiteRT, and TensorFlow Lite's `benchmark_model`: .tflite files, on the CPU through XNNPACK."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from devices.card import DeviceCard
from devices.export.onnx_model import Weights
from devices.export.tflite_int8 import tflite_file
from devices.export.tflite_profile import named_nodes
from latency.operators.spec import OpSpec


@dataclass(frozen=True)
class LiteRt:
    """The host's side; the device's side is in `devices.agent`, or the channel that
    `devices.transports.adb` starts."""

    card: DeviceCard
    suffix = ".tflite"
    options = "delegate=xnnpack"

    def build(self, ops: Sequence[OpSpec], weights: Weights, name: str) -> bytes:
        """The .tflite model of a chain of operators, in the card's precision."""
        return tflite_file(ops, weights, name, self.card.precision)

    def named(self, ops: Sequence[OpSpec], nodes: Mapping[str, float]) -> Mapping[str, float]:
        """Matches nodes to layers by the order of kinds (`devices.export.tflite_profile`)."""
        return named_nodes(ops, self.card.precision, nodes)
