"""ONNX Runtime: .onnx files, on its CPU, CUDA or TensorRT provider."""

from collections.abc import Mapping, Sequence
from typing import Any

from devices.card import DeviceCard
from devices.export.onnx_model import Weights, onnx_model
from latency.operators.spec import OpSpec


class OnnxRuntime:
    """The host's side of ONNX Runtime; the device's side is in `devices.agent`."""

    suffix = ".onnx"

    def __init__(self, card: DeviceCard) -> None:
        self._card = card

    @property
    def options(self) -> str:
        """Provider and graph optimisation level."""
        return f"provider={self._card.provider} graph_optimization={self._card.graph_optimization}"

    @property
    def greeting(self) -> Mapping[str, Any]:
        """The settings that the agent needs."""
        return {
            "runtime": "onnxruntime",
            "threads": self._card.threads,
            "graph_optimization": self._card.graph_optimization,
            "provider": self._card.provider,
            "half": self._is_half,
        }

    def build(self, ops: Sequence[OpSpec], weights: Weights, name: str) -> bytes:
        """The ONNX model of a chain of operators, in the card's precision."""
        return onnx_model(ops, weights, name, half=self._is_half)

    def named(self, ops: Sequence[OpSpec], nodes: Mapping[str, float]) -> Mapping[str, float]:
        """Unchanged: its nodes have the names of the file."""
        return nodes

    @property
    def _is_half(self) -> bool:
        return self._card.precision == "float16"
