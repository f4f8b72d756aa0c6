"""One operator of every kind and trait, and modules of them, for tests of what is exported."""

import torch

from latency import OpSpec
from latency.modules import NetworkModule
from latency.operators.kinds import ACTIVATIONS, input_shapes

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

KERNELS = [
    OpSpec("conv", 9, 8, 6, 12, 3, groups=3, activation="relu"),
    OpSpec("conv", 9, 8, 6, 6, 5, 2, groups=6, batch=2),
    OpSpec("conv", 9, 8, 6, 12, 3, groups=6, activation="relu6"),
    OpSpec("conv", 12, 11, 4, 6, 3, dilation=2),
    OpSpec("conv", 12, 11, 4, 4, 3, groups=4, dilation=3, activation="relu"),
    OpSpec("conv", 13, 12, 4, 6, 3, 2, dilation=2),
    OpSpec("conv", 8, 9, 4, 6, 2, activation="relu"),
    OpSpec("conv", 8, 9, 4, 6, 2, 2),
    OpSpec("conv", 11, 12, 4, 6, 4, 3, groups=2),
    OpSpec("conv", 12, 9, 4, 6, 2, dilation=2),
    OpSpec("conv", 9, 9, 4, 4, 4, 4, activation="gelu"),
    OpSpec("conv_add", 8, 9, 4, 6, 3, activation="relu"),
    OpSpec("conv_add", 8, 9, 6, 6, 3, 2, groups=6, batch=2),
    OpSpec("conv_transpose", 5, 6, 4, 3, 2, 2, activation="relu"),
    OpSpec("conv_transpose", 5, 6, 4, 3, 3, 2),
    OpSpec("conv_transpose", 5, 6, 4, 3, 4, 2, batch=2),
    OpSpec("conv_transpose", 5, 6, 4, 3, 3, 1, activation="silu"),
    OpSpec("conv_transpose", 5, 6, 4, 3, 1, 2),
    OpSpec("conv_transpose", 5, 6, 4, 3, 5, 3),
    OpSpec("matmul", 5, 6, 8, 12, activation="gelu", batch=2),
    OpSpec("matmul", 1, 9, 8, 12),
    OpSpec("max_pool", 8, 8, 4, 4, 2, 2),
    OpSpec("max_pool", 9, 10, 4, 4, 3, 2, batch=2),
    OpSpec("max_pool", 9, 9, 4, 4, 3, 1, activation="relu"),
    OpSpec("max_pool", 9, 8, 4, 4, 2, 1),
    OpSpec("max_pool", 7, 9, 4, 4, 5, 3),
    OpSpec("pool", 9, 9, 5, 5, 3, 2, activation="silu"),
    *(
        OpSpec("activation", 6, 7, 5, 5, activation=name, batch=2)
        for name in ACTIVATIONS
        if name != "none"
    ),
    OpSpec("add", 6, 7, 5, 5),
    OpSpec("add", 6, 7, 5, 5, activation="relu", batch=2),
    OpSpec("multiply", 6, 7, 5, 5, activation="silu"),
    OpSpec("scale", 6, 7, 5, 5, batch=2),
    OpSpec("norm", 6, 7, 5, 5),
    OpSpec("norm", 6, 7, 5, 5, activation="relu", batch=2),
    OpSpec("layer_norm", 6, 7, 8, 8, batch=2),
    OpSpec("concat", 6, 7, 5, 8, batch=2),
    OpSpec("slice", 6, 7, 8, 5, batch=2),
    OpSpec("slice", 6, 7, 8, 5, activation="relu"),
    OpSpec("transpose", 6, 7, 5, 5, batch=2),
    OpSpec("resize", 6, 7, 5, 5, 1, 2),
    OpSpec("resize", 6, 7, 5, 5, 1, 3, activation="relu", batch=2),
    OpSpec("softmax", 6, 7, 5, 5, batch=2),
    OpSpec("softmax", 1, 1, 50, 50),
    OpSpec("avg_pool", 9, 10, 4, 4, 3, batch=2),
    OpSpec("avg_pool", 9, 10, 4, 4, 5),
    OpSpec("sepconv", 9, 10, 6, 6, 5, activation="relu", dilation=2),
    OpSpec("sepconv", 9, 10, 6, 8, 3, 2, activation="relu", batch=2),
    OpSpec("tree", 8, 10, 6, 16, 3, 1, 0.25, "relu", groups=2, tree="(i(s3m3)i(s5d7))"),
    OpSpec("tree", 8, 10, 16, 16, 3, 2, 0.5, "relu", batch=2, tree="(s3(a3(ii)i)d3)"),
]
"""What runtimes execute as one, of the kinds that no search space has."""


EXAMPLES = [*OPERATORS, *KERNELS, OpSpec("reorder", 6, 7, 8, 8)]
"""At least one operator of every kind there is."""


def transposes(op: OpSpec) -> bool:
    """Whether an operator cannot do without a transposition: it is one, or shuffles channels."""
    return any(layer.kind in ("transpose", "shuffle") for layer in op.layers)


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


def random_inputs(op: OpSpec) -> dict[str, torch.Tensor]:
    """The operator's inputs by name, channels first."""
    generator = torch.Generator().manual_seed(2)
    return {
        name: torch.randn(op.batch, shape[2], *shape[:2], generator=generator)
        for name, shape in input_shapes(op).items()
    }


def computed(module: NetworkModule, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the module of one operator computes."""
    with torch.no_grad():
        return module[0](*inputs.values())
