"""Random networks of blocks, for runtimes of layers instead of ONNX files."""

from dataclasses import replace

import numpy as np

from latency.operators.kinds import Shape
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec

_RESOLUTIONS = (96, 128, 160, 192, 224)
_ACTIVATIONS = ("relu", "relu6", "relu6", "h_swish")
_CLASSES = (10, 100, 1000)


def random_blocks(seed: int, batch: int = 1) -> NetworkSpec:
    """The random network of a seed: a stem, stages of inverted bottlenecks (Sandler et al., CVPR
    2018; with squeeze-and-excitation: Howard et al., ICCV 2019) or plain convolutions, a head."""
    draw = np.random.default_rng([seed, 1])
    side = int(draw.choice(_RESOLUTIONS))
    width = 8 * int(draw.integers(2, 6))
    ops = [OpSpec("conv", side, side, 3, width, 3, 2, activation="relu")]
    for stage in range(int(draw.integers(3, 6))):
        width = min(320, 8 * max(1, round(width * draw.uniform(1.1, 2.0) / 8)))
        ops += _stage(ops[-1].out_shape, width, plain=stage < 2 and draw.random() < 0.3, draw=draw)
    height, _, channels = ops[-1].out_shape
    ops.append(OpSpec("conv", *ops[-1].out_shape, 4 * channels, activation="relu"))
    ops.append(OpSpec("pool", height, height, 4 * channels, 4 * channels, height))
    ops.append(OpSpec("linear", 1, 1, 4 * channels, int(draw.choice(_CLASSES))))
    return NetworkSpec.of(f"blocks-{seed}", tuple(replace(op, batch=batch) for op in ops))


def _stage(shape: Shape, width: int, plain: bool, draw: np.random.Generator) -> list[OpSpec]:
    """One to three blocks, the first of stride 2."""
    activation = str(draw.choice(_ACTIVATIONS))
    squeeze = float(draw.choice([0, 0, 0.25]))
    ops: list[OpSpec] = []
    for position in range(int(draw.integers(1, 4))):
        kernel, stride = int(draw.choice([3, 3, 5, 7])), 1 if position else 2
        sizes = (*shape, width, 3 if plain else kernel, stride)
        if plain:
            ops.append(OpSpec("conv", *sizes, activation=activation))
        else:
            expansion = int(draw.choice([1, 3, 4, 6]))
            squeezed = squeeze if expansion > 1 else 0.0
            ops.append(OpSpec("mbconv", *sizes, expansion, activation, squeezed))
        shape = ops[-1].out_shape
    return ops
