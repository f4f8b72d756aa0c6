"""Torch modules that are no chain of our operators, to TensorFlow Lite through litert-torch."""

import copy
import sys
from contextlib import redirect_stdout

import torch
from torch import Tensor

from latency.errors import DeviceError


def tflite_of_module(module: torch.nn.Module, example_inputs: tuple[Tensor, ...]) -> bytes:
    """The .tflite file of a module, in evaluation mode, for inputs of these shapes and types.

    Inputs and outputs keep the module's layout: a network for (batch, channels, height, width)
    takes that, and transposes inside. What litert-torch prints goes to standard error; the
    module stays as it is. Raises `DeviceError` where litert-torch is not installed or cannot
    convert the module.
    """
    try:
        import litert_torch
    except ImportError as error:
        raise DeviceError(
            "converting a torch module needs litert-torch: pip install 'lat-search[convert]'"
        ) from error
    evaluated = copy.deepcopy(module).eval()
    try:
        with redirect_stdout(sys.stderr):
            return litert_torch.convert(evaluated, example_inputs).model_content()
    except Exception as error:  # whatever torch.export or a lowering raises, of many types
        reason = str(error).strip().partition("\n")[0]
        raise DeviceError(
            f"litert-torch cannot convert {type(module).__name__}: {type(error).__name__}: {reason}"
        ) from error
