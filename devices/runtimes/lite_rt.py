"""LiteRT: .tflite files, float32 or int8, on the CPU through XNNPACK."""

from collections.abc import Mapping, Sequence
from typing import Any

from devices.card import DeviceCard
from devices.export.onnx_model import Weights
from devices.export.tflite_int8 import tflite_file
from devices.export.tflite_profile import named_nodes
from latency.operators.spec import OpSpec


class LiteRt:
    """The host's side of LiteRT; the device's side is in `devices.agent`."""

    suffix = ".tflite"
    options = "delegate=xnnpack"

    def __init__(self, card: DeviceCard) -> None:
        self._card = card

    @property
    def greeting(self) -> Mapping[str, Any]:
        """The settings that the agent needs."""
        return {"runtime": "litert", "threads": self._card.threads}

    def build(self, ops: Sequence[OpSpec], weights: Weights, name: str) -> bytes:
        """The .tflite model of a chain of operators, in the card's precision."""
        return tflite_file(ops, weights, name, self._card.precision)

    def named(self, ops: Sequence[OpSpec], nodes: Mapping[str, float]) -> Mapping[str, float]:
        """Matches nodes to layers by the order of kinds (`devices.export.tflite_profile`)."""
        return named_nodes(ops, self._card.precision, nodes)
