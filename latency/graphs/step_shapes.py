"""The sizes of a step's tensors, as operators have them."""

import math
from dataclasses import replace

from latency.errors import SpecError
from latency.graphs.folding import Sizes
from latency.graphs.patterns import Step

REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax")


def reduced_axes(step: Step) -> tuple[int, ...]:
    """The axes that a reduction takes together, in order; () of any other step."""
    if step.kind not in REDUCTIONS:
        return ()
    rank, given = len(step.shapes[0]), step.attributes.get("axes")
    if given is None and 1 in step.constants:
        values = step.constants[1]
        if values is None:
            raise SpecError("its axes are missing")
        given = values.ravel().tolist()
    axes = sorted({int(axis) % rank for axis in given or range(rank)})
    return tuple(axes)


def works_on_plain(step: Step) -> bool:
    """Whether a step, whatever the operator that stands for it, is on plain tensors."""
    return step.kind == "Pad" or (step.kind in ("Add", "Sub") and len(step.shapes) < 2)


def area_of(step: Step) -> int | None:
    """The area that a kernel reads which need not be square: that of a convolution's kernel that is
    not, or of what a reduction or a global pooling takes together; None of any other step."""
    if step.kind == "Conv":
        sizes = step.weights[0][2:] if step.weights else ()
        return math.prod(sizes) if len(sizes) == 2 and sizes[0] != sizes[1] else None
    if step.kind in ("GlobalAveragePool", "GlobalMaxPool"):
        return math.prod(step.shapes[0][2:])
    axes = reduced_axes(step)
    return math.prod(step.shapes[0][axis] for axis in axes) if axes else None


def changed_axes(step: Step) -> list[int]:
    """The axes of which a step's output has another size than its first input."""
    sizes = list(zip(step.shapes[0], step.out_shape, strict=True))
    return [axis for axis, (inside, outside) in enumerate(sizes) if inside != outside]


def channels_first(shape: Sizes) -> tuple[int, int, int, int]:
    """(batch, channels, height, width) of a tensor of any rank, channels first."""
    if len(shape) == 4:
        return (shape[0], shape[1], shape[2], shape[3])
    if len(shape) < 2:
        return (1, math.prod(shape), 1, 1)
    batch, channels, *rest = shape
    height = rest[0] if rest else 1
    return (batch, channels, height, math.prod(rest[1:]))


def channels_last(shape: Sizes) -> tuple[int, int, int, int]:
    """(batch, height, width, channels) of a tensor of any rank, channels last."""
    if len(shape) < 2:
        return (1, 1, 1, math.prod(shape))
    batch, *rest, channels = shape
    height = rest[0] if rest else 1
    return (batch, height, math.prod(rest[1:]), channels)


def padded_sides(inside: Sizes, outside: Sizes, stride: int) -> tuple[int, int] | None:
    """The input of a padded convolution that has this output; the true one where it does."""
    if len(inside) != 2:
        return None
    true = tuple(-(-size // stride) for size in inside)
    if true == tuple(outside):
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
