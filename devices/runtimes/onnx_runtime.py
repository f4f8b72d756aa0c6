"""ONNX Runtime: writes ONNX files and says how the agent is to run them."""

from devices.card import DeviceCard
from devices.device import Workload
from devices.export import onnx_model, random_weights


class OnnxRuntime:
    """The host's half of ONNX Runtime; the device's half is in `devices.agent`."""

    suffix = ".onnx"

    def __init__(self, card: DeviceCard) -> None:
        self._card = card
        self._weights = random_weights()

    @property
    def options(self) -> str:
        """The runtime's settings, for a table's header."""
        return f"graph_optimization={self._card.graph_optimization}"

    @property
    def greeting(self) -> dict:
        """What the agent needs to know to set the runtime up."""
        return {
            "runtime": "onnxruntime",
            "threads": self._card.threads,
            "graph_optimization": self._card.graph_optimization,
        }

    def build(self, workload: Workload) -> bytes:
        """The model file of a workload, with random weights where it brings none."""
        if workload.model is not None:
            return workload.model
        return onnx_model(workload.ops, self._weights, workload.name)
