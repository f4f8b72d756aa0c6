"""Each backend computes what torch computes for every kind, or refuses the kind by name."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from backends import run_agent, run_int8, run_lite_rt, run_onnx
from operators import EXAMPLES, computed, random_inputs, trained_looking
from torch.utils.flop_counter import FlopCounterMode

from devices.card import DeviceCard
from devices.export.onnx_model import onnx_model, random_weights
from devices.export.tflite_int8 import tflite_file
from devices.export.tflite_model import tflite_model
from devices.runtimes.torch_eager import TorchEager
from latency import OpSpec, SpecError
from latency.modules import OperatorModule
from latency.operators.kinds import KINDS, input_shapes
from latency.operators.layer import LAYER_KINDS

CARDS = {
    "agent": DeviceCard(name="x", runtime="torch", channels_last=True),
    "agent, channels first": DeviceCard(name="x", runtime="torch", channels_last=False),
}
COMPUTED_BY: dict[str, Callable] = {
    "onnx": run_onnx,
    "litert": run_lite_rt,
    **{
        name: lambda module, inputs, card=card: run_agent(module, inputs, card)
        for name, card in CARDS.items()
    },
}
BUILT_BY: dict[str, Callable] = {
    "module": lambda op: OperatorModule(op),
    "onnx": lambda op: onnx_model([op], random_weights()),
    "litert": lambda op: tflite_model([op], random_weights()),
    "litert int8": lambda op: tflite_file([op], random_weights(), "n", "int8"),
    **{
        name: lambda op, card=card: TorchEager(card).build([op], random_weights(), "n")
        for name, card in CARDS.items()
    },
}
REFUSED = [("litert int8", "layer_norm"), *((name, "reorder") for name in BUILT_BY)]
"""Backends, and kinds that they do not have."""
INT8_STEPS = {"mbconv": (2.5, 1.25), "pool": (1.5, 0.75), "linear": (6, 3)}
"""By how many of its output's 255 steps an int8 operator may be off, at most and typically, on
calibrated inputs, where that is not (4, 1.5): half a step for its own rounding, and what the steps
of the input amount to in an output as narrow as that of a linear layer with few features."""


@pytest.fixture(autouse=True)
def torch_settings_are_restored():
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = benchmark


def _covered(backend: str) -> list[OpSpec]:
    """The examples of the kinds that a backend has."""
    return [op for op in EXAMPLES if (backend, op.kind) not in REFUSED]


def _pairs() -> list:
    return [
        pytest.param(op, backend, id=f"{op.key}-{backend}")
        for backend in COMPUTED_BY
        for op in _covered(backend)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_an_example(kind):
    assert kind in {op.kind for op in EXAMPLES}


def test_every_kind_of_layer_is_in_an_example():
    assert {layer.kind for op in EXAMPLES for layer in op.layers} == LAYER_KINDS.keys()


@pytest.mark.parametrize(("op", "backend"), _pairs())
def test_a_backend_computes_what_torch_computes(op, backend):
    module, inputs = trained_looking(op), random_inputs(op)
    expected = computed(module, inputs).numpy()
    output = COMPUTED_BY[backend](module, inputs)
    assert output.shape == expected.shape
    off = 1e-5 if backend == "litert" else 1e-4
    np.testing.assert_allclose(output, expected, rtol=off, atol=off)


@pytest.mark.parametrize("op", _covered("litert int8"), ids=str)
def test_int8_is_within_some_steps_of_what_torch_computes(op):
    module, inputs = trained_looking(op), random_inputs(op)
    output, step = run_int8(module, inputs)
    steps = np.abs(output - computed(module, inputs).numpy()) / step
    is_coarse = op.kind == "pool" and op.activation != "none"  # rounded twice
    largest, typical = (4, 1.5) if is_coarse else INT8_STEPS.get(op.kind, (4, 1.5))
    assert steps.max() <= largest
    assert np.sqrt((steps**2).mean()) <= typical


@pytest.mark.parametrize(("backend", "kind"), REFUSED)
def test_a_backend_refuses_by_name_a_kind_that_it_does_not_have(backend, kind):
    for op in EXAMPLES:
        if op.kind == kind:
            with pytest.raises(SpecError, match=kind):
                BUILT_BY[backend](op)


@pytest.mark.parametrize("op", _covered("module"), ids=str)
def test_each_layer_has_the_counts_of_its_module(op):
    module = OperatorModule(op)
    shapes = input_shapes(op).values()
    with FlopCounterMode(display=False) as counter:
        module(*(torch.randn(op.batch, shape[2], *shape[:2]) for shape in shapes))
    flops = counter.get_flop_counts()
    for layer in op.layers:
        part = module.layers[layer.name]
        assert layer.params == sum(value.numel() for value in part.parameters())
        counted = flops.get(f"OperatorModule.layers.{layer.name}", {})
        assert 2 * op.batch * layer.macs == sum(counted.values())
