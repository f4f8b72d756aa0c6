"""From one step of a graph to the operator that describes it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from latency.errors import SpecError
from latency.graphs.non_square import nearest_side
from latency.graphs.patterns import Step
from latency.graphs.step_shapes import (
    REDUCTIONS,
    area_of,
    changed_axes,
    channels_first,
    channels_last,
    padded_sides,
    reduced_axes,
)
from latency.operators.spec import OpSpec


class StepReader:
    """Reads steps as operators. A step that is no operator of ours is estimated by one that moves
    as many bytes, and `warnings` names it."""

    def __init__(self, warnings: dict[str, None]) -> None:
        self.warnings = warnings

    def op_of(self, step: Step) -> OpSpec:
        """The operator of a step; `SpecError` for arithmetic that no operator has."""
        if step.kind in _READERS:
            return _READERS[step.kind](self, step)
        largest = max((step.out_shape, *step.shapes), key=math.prod)
        return self._estimated(replace(step, out_shape=largest))

    def _estimated(self, step: Step) -> OpSpec:
        """The slice of channels that writes as many bytes as a step."""
        self._warn(f"{step.kind} is estimated from its bytes")
        batch, channels, height, width = channels_first(step.out_shape)
        return OpSpec("slice", height, width, 2 * channels, channels, batch=batch)

    def _warn(self, message: str) -> None:
        self.warnings[message] = None

    def _conv(self, step: Step) -> OpSpec:
        weight = step.weights[0] if step.weights else ()
        if len(step.out_shape) != 4 or len(weight) != 4:
            self._warn(f"{step.kind} of {len(step.out_shape) - 2} dimensions is taken as one of 2")
        batch, inside, _, _ = channels_first(step.shapes[0])
        _, outside, *_ = channels_first(step.out_shape)
        if area := area_of(step):
            kernel = nearest_side(area)
            self._warn(f"a kernel of {weight[2]}x{weight[3]} is estimated from square ones")
        else:
            kernel = self._square("kernel", weight[2:] or (1,))
        stride = self._square("stride", step.attributes.get("strides") or (1,))
        dilation = self._square("dilation", step.attributes.get("dilations") or (1,))
        groups = int(step.attributes.get("group", 1))
        if len(weight) > 1 and weight[1] * groups != inside:
            raise SpecError(
                f"its shapes contradict each other: weights for {weight[1] * groups} channels, "
                f"input of {inside}"
            )
        return OpSpec(
            "conv", *padded_sides(step, stride), inside, outside, kernel=kernel, stride=stride,
            batch=batch, groups=groups, dilation=dilation,
        )  # fmt: skip

    def _conv_transpose(self, step: Step) -> OpSpec:
        batch, inside, height, width = channels_first(step.shapes[0])
        _, outside, *out = channels_first(step.out_shape)
        stride, *others = {*(step.attributes.get("strides") or (1,))}
        groups = int(step.attributes.get("group", 1))
        dilations = {*(step.attributes.get("dilations") or (1,))}
        kernel = (step.weights[0] if step.weights else ())[2:]
        is_square = len(kernel) == 2 and kernel[0] == kernel[1]
        scales = not others and out == [height * stride, width * stride]
        is_plain = groups == 1 and dilations == {1} and len(step.out_shape) == 4
        if not (is_square and scales and is_plain):
            raise SpecError(
                f"a transposed convolution from {height}x{width} to {out[0]}x{out[1]}, kernel "
                f"{kernel}, {groups} group(s), is in no table; one with a square kernel, without "
                "groups and dilation, that enlarges height and width by its stride is"
            )
        sizes = (height, width, inside, outside)
        return OpSpec("conv_transpose", *sizes, kernel=kernel[0], stride=stride, batch=batch)

    def _product(self, step: Step) -> OpSpec:
        """Rows of a matrix are pixels."""
        *rows, inside = step.shapes[0]
        outside = step.out_shape[-1]
        count = math.prod(rows)
        if len(rows) <= 1 and step.weights:
            return OpSpec("linear", 1, 1, inside, outside, batch=count)
        batch = rows[0] if len(rows) > 1 else 1
        height = rows[1] if len(rows) > 2 else 1
        return OpSpec("matmul", height, count // (batch * height), inside, outside, batch=batch)

    def _pool(self, step: Step) -> OpSpec:
        kind = "max_pool" if step.kind == "MaxPool" else "pool"
        batch, channels, height, width = channels_first(step.shapes[0])
        kernel = self._square("window", step.attributes.get("kernel_shape") or (1,))
        stride = self._square("stride", step.attributes.get("strides") or (1,))
        if kind == "pool":
            out = channels_first(step.out_shape)[2:]
            height, width = ((size - 1) * stride + kernel for size in out)
        sizes = (height, width, channels, channels)
        return OpSpec(kind, *sizes, kernel=kernel, stride=stride, batch=batch)

    def _global_pool(self, step: Step) -> OpSpec:
        """A reduction over all axes but batch and channels is a global pooling; any other reads
        all and writes next to nothing, as a global pooling does."""
        shape, axes = step.shapes[0], reduced_axes(step)
        if axes != tuple(range(2, len(shape))) or len(shape) < 3:
            self._warn(f"{step.kind} over axes {axes} of {len(shape)} is estimated from its bytes")
        elif step.kind in ("GlobalMaxPool", "ReduceMax"):
            self._warn(f"{step.kind} is taken as an average pooling")
        area = math.prod(shape[axis] for axis in axes)
        side = nearest_side(area, is_map=True)
        if side**2 != area:
            self._warn(f"{step.kind} of {area} pixels is estimated from square maps")
        batch = shape[0] if 0 not in axes and len(shape) > 1 else 1
        channels = math.prod(shape) // (area * batch)
        return OpSpec("pool", side, side, channels, channels, kernel=side, batch=batch)

    def _concat(self, step: Step) -> OpSpec:
        batch, channels, height, width = channels_first(step.out_shape)
        if len(step.shapes) + len(step.weights) < 2 or changed_axes(step) != [1]:
            return self._estimated(step)
        first = min(channels - 1, max(1, channels_first(step.shapes[0])[1]))
        return OpSpec("concat", height, width, first, channels, batch=batch)

    def _resize(self, step: Step) -> OpSpec:
        batch, channels, height, width = channels_first(step.shapes[0])
        out = channels_first(step.out_shape)
        mode = step.attributes.get("mode", b"nearest").decode()
        factor = out[2] // height
        is_whole = factor > 0 and out == (batch, channels, factor * height, factor * width)
        if mode != "nearest" or not is_whole or len(step.out_shape) != 4:
            raise SpecError(
                f"a resize ({mode}) from {height}x{width} to {out[2]}x{out[3]} is in no table; one "
                "to nearest neighbours, by the same whole factor in both directions, is"
            )
        return OpSpec("resize", height, width, channels, channels, stride=factor, batch=batch)

    def _transpose(self, step: Step) -> OpSpec:
        """To channels last, or back. A swap of two neighbouring axes, as in a channel shuffle,
        moves memory in the same way."""
        shape = step.shapes[0]
        rank = len(shape)
        perm = tuple(step.attributes.get("perm") or range(rank)[::-1])
        to_last, to_first = (0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))
        if rank > 3 and perm == to_first:
            return _same("transpose", channels_last(shape))
        if rank < 3 or perm not in (to_last, (0, 2, 1, *range(3, rank))):
            self._warn(f"{step.kind} by {perm} is estimated from its bytes")
        return _same("transpose", channels_first(shape))

    def _slice(self, step: Step) -> OpSpec:
        """A slice of consecutive channels."""
        batch, inside, height, width = channels_first(step.shapes[0])
        steps = step.constants.get(4)
        is_dense = steps is None or set(steps.ravel().tolist()) == {1}
        if changed_axes(step) not in ([], [1]) or not is_dense:
            return self._estimated(step)
        channels = channels_first(step.out_shape)[1]
        return OpSpec("slice", height, width, inside, channels, batch=batch)

    def _split(self, step: Step) -> OpSpec:
        """A split of the channels into halves. The slice of the first one stands for both, which
        are traced as one kernel."""
        batch, inside, height, width = channels_first(step.shapes[0])
        channels = max(1, inside // 2)
        if changed_axes(step) != [1] or 2 * step.out_shape[1] != inside:
            self._warn("Split is taken as one of the channels into halves")
        return OpSpec("slice", height, width, inside, channels, batch=batch)

    def _pad(self, step: Step) -> OpSpec:
        """A padding with channels of zeros, read as a concatenation."""
        batch, channels, height, width = channels_first(step.out_shape)
        inside = channels_first(step.shapes[0])[1]
        is_constant = step.attributes.get("mode", b"constant") == b"constant"
        if changed_axes(step) != [1] or inside >= channels or not is_constant:
            return self._estimated(step)
        return OpSpec("concat", height, width, inside, channels, batch=batch)

    def _activation(self, step: Step) -> OpSpec:
        activation = step.activation if step.kind == "activation" else "relu"
        return _same("activation", channels_first(step.shapes[0]), activation)

    def _arithmetic(self, step: Step) -> OpSpec:
        if step.kind in ("Add", "Sub") and len(step.shapes) < 2:
            kind = "add"  # of a constant
        elif len(step.shapes) < 2:
            kind = "multiply"  # by a constant, of any shape
        elif step.shapes[0] == step.shapes[1]:
            kind = "multiply" if step.kind in ("Mul", "Div") else "add"
        else:
            kind = "scale"
        return _same(kind, channels_first(step.out_shape))

    def _square(self, what: str, sizes: Sequence[int]) -> int:
        """One size for both directions: that of the same area."""
        side = max(1, round(math.sqrt(math.prod(sizes)) if len(sizes) == 2 else sizes[0]))
        if len(set(sizes)) > 1:
            shown = "x".join(map(str, sizes))
            self._warn(f"a {what} of {shown} is taken as {side}x{side}")
        return side


def _same(kind: str, sizes: tuple[int, int, int, int], activation: str = "none") -> OpSpec:
    """An operator of (batch, channels, height, width) that keeps its sizes."""
    batch, channels, height, width = sizes
    return OpSpec(kind, height, width, channels, channels, activation=activation, batch=batch)


_KEEPS_SIZES = {
    "Softmax": "softmax",
    "LogSoftmax": "softmax",
    "BatchNormalization": "norm",
    "InstanceNormalization": "layer_norm",
    "GroupNormalization": "layer_norm",
    "LRN": "layer_norm",
}
_POINTWISE = ("activation", "Sqrt", "Neg", "Abs", "Reciprocal", "Floor", "Log")
_READERS: dict[str, Callable[[StepReader, Step], OpSpec]] = {
    "Conv": StepReader._conv,
    "ConvTranspose": StepReader._conv_transpose,
    "Gemm": StepReader._product,
    "MatMul": StepReader._product,
    "MaxPool": StepReader._pool,
    "AveragePool": StepReader._pool,
    **dict.fromkeys(REDUCTIONS, StepReader._global_pool),
    "Concat": StepReader._concat,
    "Resize": StepReader._resize,
    "Upsample": StepReader._resize,
    "Transpose": StepReader._transpose,
    "Slice": StepReader._slice,
    "Split": StepReader._split,
    "Pad": StepReader._pad,
    **dict.fromkeys(("Gather", "Expand", "Tile"), StepReader._estimated),
    **dict.fromkeys(
        _KEEPS_SIZES,
        lambda _, step: _same(_KEEPS_SIZES[step.kind], channels_first(step.shapes[0])),
    ),
    "LayerNormalization": lambda _, step: _same("layer_norm", channels_last(step.shapes[0])),
    **dict.fromkeys(_POINTWISE, StepReader._activation),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"), StepReader._arithmetic),
}
