"""ONNX Runtime: .onnx files, on its CPU, CUDA or TensorRT provider."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from devices.card import DeviceCard
from devices.export.onnx_model import Weights, onnx_model
from latency.operators.spec import OpSpec


@dataclass(frozen=True)
class OnnxRuntime:
    """The host's side of ONNX Runtime; the device's side is in `devices.agent`."""

    card: DeviceCard
    suffix = ".onnx"

    @property
    def options(self) -> str:
        """Provider and graph optimisation level."""
        return f"provider={self.card.provider} graph_optimization={self.card.graph_optimization}"

    def build(self, ops: Sequence[OpSpec], weights: Weights, name: str) -> bytes:
        """The ONNX model of a chain of operators, in the card's precision."""
        return onnx_model(ops, weights, name, half=self.card.precision == "float16")

    def named(self, ops: Sequence[OpSpec], nodes: Mapping[str, float]) -> Mapping[str, float]:
        """Unchanged: its nodes have the names of the file."""
        return nodes
