"""One operator of every kind and trait, and modules of them, for tests of what is exported."""

import torch

from latency import OpSpec
from latency.layers import ACTIVATIONS
from latency.modules import NetworkModule

OPERATORS = [
    OpSpec("conv", 16, 16, 3, 8, 3, 2, activation="relu6"),
    OpSpec("conv", 9, 11, 4, 6, 5, 2, activation="silu"),
    OpSpec("conv", 9, 12, 4, 6, 3, 2, activation="relu"),
    OpSpec("conv", 9, 12, 4, 6, 7, 3),
    OpSpec("conv", 8, 9, 5, 6, 1, 2),
    OpSpec("conv", 4, 4, 1, 8, 5, activation="relu"),
    OpSpec("mbconv", 14, 14, 8, 8, 5, 1, 6, "relu6"),
    OpSpec("mbconv", 15, 15, 8, 16, 7, 2, 3, "relu"),
    OpSpec("mbconv", 14, 14, 8, 16, 7, 2, 3, "relu"),
    OpSpec("mbconv", 10, 10, 8, 8, 3, 1, 1, "relu6", batch=3),
    OpSpec("mbconv", 8, 8, 16, 24, 3, 1, 2.5, "h_swish", 0.25),
    OpSpec("mbconv", 15, 14, 8, 8, 3, 2, 4, "silu", 0.25, batch=2),
    OpSpec("mbconv", 8, 8, 8, 8, 3, 1, 3, "sigmoid", 0.5),
    OpSpec("pool", 7, 7, 12, 12, 7),
    OpSpec("pool", 7, 7, 12, 12, 7, batch=3),
    OpSpec("pool", 9, 9, 12, 12, 3, 2),
    OpSpec("pool", 6, 9, 5, 5, 6),
    OpSpec("linear", 1, 1, 32, 10, batch=3),
    *(OpSpec("conv", 7, 7, 20, 16, 1, activation=name) for name in ACTIVATIONS),
    *(OpSpec("linear", 1, 1, 32, 10, activation=name) for name in ACTIVATIONS),
    OpSpec("conv", 8, 8, 3, 8, 3, activation="h_sigmoid", batch=3),
]


def trained_looking(*ops: OpSpec) -> NetworkModule:
    """A chain of operators with batch-norm statistics as after training, so that folding them
    wrongly shows."""
    torch.manual_seed(1)
    module = NetworkModule(ops)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(part.weight)
            torch.nn.init.normal_(part.bias)
    return module.eval()
