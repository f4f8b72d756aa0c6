"""The sizes of a step's tensors, as operators have them."""

import math
from dataclasses import replace

from latency.errors import SpecError
from latency.graphs.folding import Sizes
from latency.graphs.patterns import Step

REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "GlobalAveragePool", "GlobalMaxPool")


def reduced_axes(step: Step) -> tuple[int, ...]:
    """The axes that a reduction or a global pooling reduces, in order; () of any other step."""
    if step.kind not in REDUCTIONS:
        return ()
    rank, given = len(step.shapes[0]), step.attributes.get("axes")
    if step.kind.startswith("Global"):
        return tuple(range(2, rank))
    if given is None and 1 in step.constants:
        values = step.constants[1]
        if values is None:
            raise SpecError("its axes are missing")
        given = values.ravel().tolist()
    return tuple(sorted({int(axis) % rank for axis in given or range(rank)}))


def area_of(step: Step) -> int | None:
    """The area of a kernel that is not square, or of what a reduction or a global pooling
    reduces; None of any other step."""
    if step.kind == "Conv":
        sizes = step.weights[0][2:] if step.weights else ()
        return math.prod(sizes) if len(sizes) == 2 and sizes[0] != sizes[1] else None
    axes = reduced_axes(step)
    return math.prod(step.shapes[0][axis] for axis in axes) if axes else None


def changed_axes(step: Step) -> list[int]:
    """The axes on which a step's output differs in size from its first input."""
    sizes = list(zip(step.shapes[0], step.out_shape, strict=True))
    return [axis for axis, (inside, outside) in enumerate(sizes) if inside != outside]


def channels_first(shape: Sizes) -> tuple[int, int, int, int]:
    """(batch, channels, height, width) of a tensor of any rank, channels first."""
    if len(shape) < 2:
        return (1, math.prod(shape), 1, 1)
    batch, channels, *rest = shape
    height = rest[0] if rest else 1
    return (batch, channels, height, math.prod(rest[1:]))


def channels_last(shape: Sizes) -> tuple[int, int, int, int]:
    """(batch, channels, height, width) of a tensor of any rank, channels last."""
    if len(shape) < 2:
        return channels_first(shape)
    batch, *rest, channels = shape
    return channels_first((batch, channels, *rest))


def padded_sides(step: Step, stride: int) -> tuple[int, int]:
    """(height, width) of the input of a padded convolution that has a step's output: those of the
    step's own input if it is padded."""
    inside, outside = step.shapes[0][2:], step.out_shape[2:]
    if len(inside) != 2:
        return channels_first(step.out_shape)[2:]
    if tuple(-(-size // stride) for size in inside) == tuple(outside):
        return (inside[0], inside[1])
    return (outside[0] * stride, outside[1] * stride)


def to_channels_first(step: Step) -> Step:
    """A step on tensors with channels last as one on tensors with channels first; matrix products,
    norms over channels and transpositions are read as they are."""
    if step.kind in ("MatMul", "Gemm", "LayerNormalization", "Transpose"):
        return step
    if axes := reduced_axes(step):
        turns = {1: 2, 2: 3, 3: 1} if len(step.shapes[0]) == 4 else {}
        turned_axes = [turns.get(axis, axis) for axis in axes]
        step = replace(step, attributes={**step.attributes, "axes": turned_axes}, constants={})

    def turned(shape: Sizes) -> Sizes:
        return (shape[0], shape[-1], *shape[1:-1]) if len(shape) == 4 else shape

    shapes = tuple(turned(shape) for shape in step.shapes)
    return replace(step, shapes=shapes, out_shape=turned(step.out_shape))
