"""From one step of a graph to the operator that describes it."""

import math
from collections.abc import Sequence
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
    """Steps to operators: the same ones, or others of as many bytes, which a warning names; a
    Raises `SpecError` for a step that no operator describes."""

    def __init__(self, warnings: dict[str, None]) -> None:
        self.warnings = warnings

    def op_of(self, step: Step) -> OpSpec:
        """The operator of a step alone."""
        reader = {
            "Conv": self._conv,
            "ConvTranspose": self._conv_transpose,
            "Gemm": self._product,
            "MatMul": self._product,
            "MaxPool": self._pool,
            "AveragePool": self._pool,
            "GlobalAveragePool": self._global_pool,
            "GlobalMaxPool": self._global_pool,
            **dict.fromkeys(REDUCTIONS, self._reduce),
            "Concat": self._concat,
            "Resize": self._resize,
            "Upsample": self._resize,
            "Transpose": self._transpose,
            "Slice": self._slice,
            "Split": self._split,
            "Pad": self._pad,
            **dict.fromkeys(("Gather", "Expand", "Tile"), self._copied),
            "Softmax": self._like("softmax"),
            "LogSoftmax": self._like("softmax"),
            "BatchNormalization": self._like("norm"),
            "InstanceNormalization": self._like("layer_norm"),
            "GroupNormalization": self._like("layer_norm"),
            "LRN": self._like("layer_norm"),
            "LayerNormalization": self._channels_last("layer_norm"),
            "activation": self._activation,
            **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"), self._arithmetic),
            **dict.fromkeys(("Sqrt", "Neg", "Abs", "Reciprocal", "Floor", "Log"), self._unary),
        }.get(step.kind)
        if reader is None:
            return self._unknown(step)
        return reader(step)

    def _unknown(self, step: Step) -> OpSpec:
        """What moves as many bytes as the largest tensor that is read or written."""
        largest = max((step.out_shape, *step.shapes), key=math.prod)
        return self._estimated(replace(step, out_shape=largest), step.kind)

    def _copied(self, step: Step) -> OpSpec:
        return self._estimated(step, step.kind)

    def _estimated(self, step: Step, what: str) -> OpSpec:
        """What moves as many bytes as a step writes, as a slice of channels from a tensor of more;
        a warning says that `what` is estimated."""
        self._warn(f"{what} is estimated from its bytes")
        batch, channels, height, width = channels_first(step.out_shape)
        return OpSpec("slice", height, width, 2 * channels, channels, batch=batch)

    def _warn(self, message: str) -> None:
        self.warnings[message] = None

    def _conv(self, step: Step) -> OpSpec:
        weight = step.weights[0] if step.weights else ()
        if len(step.out_shape) != 4 or len(weight) != 4:
            self._warn(
                f"{step.kind} of {len(step.out_shape) - 2} dimensions is taken as one of two"
            )
        attributes = step.attributes
        batch, inside, _, _ = channels_first(step.shapes[0])
        _, outside, height, width = channels_first(step.out_shape)
        if area := area_of(step):
            kernel = nearest_side(area)
            self._warn(f"a kernel of {weight[2]}x{weight[3]} is estimated from square ones")
        else:
            kernel = self._square("kernel", weight[2:] or (1,))
        stride = self._square("stride", attributes.get("strides") or (1,))
        dilation = self._square("dilation", attributes.get("dilations") or (1,))
        groups = int(attributes.get("group", 1))
        if len(weight) > 1 and weight[1] * groups != inside:
            raise SpecError(
                f"its shapes contradict each other: weights for {weight[1] * groups} channels, "
                f"input of {inside}"
            )
        sizes = padded_sides(step.shapes[0][2:], step.out_shape[2:], stride) or (height, width)
        return OpSpec(
            "conv", *sizes, inside, outside, kernel=kernel, stride=stride,
            batch=batch, groups=groups, dilation=dilation,
        )  # fmt: skip

    def _conv_transpose(self, step: Step) -> OpSpec:
        batch, inside, height, width = channels_first(step.shapes[0])
        _, outside, *out = channels_first(step.out_shape)
        strides = set(step.attributes.get("strides") or (1,))
        (stride,) = strides if len(strides) == 1 else (0,)
        groups = int(step.attributes.get("group", 1))
        weight = step.weights[0] if step.weights else ()
        reason = ""
        if len(step.out_shape) != 4 or len(weight) != 4:
            reason = "whose weights are computed, or that is not of two dimensions"
        elif groups != 1:
            reason = f"in {groups} groups"
        elif set(step.attributes.get("dilations") or (1,)) != {1}:
            reason = "with dilation"
        elif weight[2] != weight[3]:
            reason = f"with a kernel of {weight[2]}x{weight[3]}"
        elif out != [height * stride, width * stride]:
            reason = f"from {height}x{width} to {out[0]}x{out[1]}"
        if reason:
            raise SpecError(
                f"a transposed convolution {reason} is in no table; one of square kernel, without "
                "groups and dilation, that enlarges height and width by its stride is"
            )
        sizes = (height, width, inside, outside)
        return OpSpec("conv_transpose", *sizes, kernel=weight[2], stride=stride, batch=batch)

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
            _, _, out_height, out_width = channels_first(step.out_shape)
            height, width = ((out - 1) * stride + kernel for out in (out_height, out_width))
        sizes = (height, width, channels, channels)
        return OpSpec(kind, *sizes, kernel=kernel, stride=stride, batch=batch)

    def _global_pool(self, step: Step) -> OpSpec:
        if step.kind == "GlobalMaxPool":
            self._warn("GlobalMaxPool is taken as an average pooling")
        batch, channels, height, width = channels_first(step.shapes[0])
        return self._pool_of_map(step, channels, batch, f"pooling of {height}x{width}")

    def _reduce(self, step: Step) -> OpSpec:
        """A reduction over all but batch and channels is a global pooling; any other reads all,
        and writes next to nothing, as a global pooling does."""
        shape, axes = step.shapes[0], reduced_axes(step)
        if axes != tuple(range(2, len(shape))) or len(shape) < 3:
            shown = ", ".join(map(str, axes))
            self._warn(f"{step.kind} over axes {shown} of {len(shape)} is estimated from its bytes")
        elif step.kind == "ReduceMax":
            self._warn("ReduceMax is taken as an average pooling")
        kept = [size for axis, size in enumerate(shape) if axis not in axes]
        batch = shape[0] if 0 not in axes and len(shape) > 1 else 1
        return self._pool_of_map(step, math.prod(kept) // batch, batch, "reduction")

    def _pool_of_map(self, step: Step, channels: int, batch: int, what: str) -> OpSpec:
        """An average pooling of the square map that is nearest to what a step takes together."""
        area = area_of(step) or 1
        side = nearest_side(area, is_map=True)
        if side**2 != area:
            self._warn(f"a {what} is estimated from square maps")
        return OpSpec("pool", side, side, channels, channels, kernel=side, batch=batch)

    def _concat(self, step: Step) -> OpSpec:
        batch, channels, height, width = channels_first(step.out_shape)
        if len(step.shapes) + len(step.weights) < 2 or changed_axes(step) != [1]:
            axis = step.attributes.get("axis")
            return self._estimated(step, f"Concat along axis {axis}")
        first = min(channels - 1, max(1, channels_first(step.shapes[0])[1]))
        return OpSpec("concat", height, width, first, channels, batch=batch)

    def _resize(self, step: Step) -> OpSpec:
        batch, channels, height, width = channels_first(step.shapes[0])
        *kept, out_height, out_width = channels_first(step.out_shape)
        mode = step.attributes.get("mode", b"nearest")
        named = mode.decode(errors="replace") if isinstance(mode, bytes) else str(mode)
        factor = out_height // height
        sizes = [batch, channels, factor * height, factor * width]
        is_whole = factor > 0 and [*kept, out_height, out_width] == sizes
        if named != "nearest" or not is_whole or len(step.out_shape) != 4:
            raise SpecError(
                f"a resize ({named}) from {height}x{width} to {out_height}x{out_width} is in no "
                "table; one to nearest neighbours, by one whole factor in both directions, is"
            )
        return OpSpec("resize", height, width, channels, channels, stride=factor, batch=batch)

    def _transpose(self, step: Step) -> OpSpec:
        """To channels last, or back; two neighbouring axes before others, as channels are shuffled,
        move like that too."""
        shape = step.shapes[0]
        rank = len(shape)
        perm = tuple(step.attributes.get("perm") or range(rank)[::-1])
        to_last, to_first = (0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))
        if rank > 3 and perm == to_first:
            batch, height, width, channels = channels_last(shape)
        else:
            batch, channels, height, width = channels_first(shape)
            if rank < 3 or perm not in (to_last, (0, 2, 1, *range(3, rank))):
                self._warn(f"Transpose by {perm} is estimated from its bytes")
        return OpSpec("transpose", height, width, channels, channels, batch=batch)

    def _slice(self, step: Step) -> OpSpec:
        """Of channels one after the other."""
        batch, inside, height, width = channels_first(step.shapes[0])
        steps = step.constants.get(4)
        if changed_axes(step) not in ([], [1]):
            return self._estimated(step, f"Slice along axis {changed_axes(step)[-1]}")
        if steps is not None and set(steps.ravel().tolist()) != {1}:
            return self._estimated(step, "Slice of every other channel")
        channels = channels_first(step.out_shape)[1]
        return OpSpec("slice", height, width, inside, channels, batch=batch)

    def _split(self, step: Step) -> OpSpec:
        """Of channels, into halves. The slice of the first one stands for both of them: so they
        are traced, as one kernel."""
        batch, inside, height, width = channels_first(step.shapes[0])
        channels = max(1, inside // 2)
        if changed_axes(step) != [1] or 2 * step.out_shape[1] != inside:
            self._warn("Split into other parts than half of the channels is taken as one into them")
        return OpSpec("slice", height, width, inside, channels, batch=batch)

    def _pad(self, step: Step) -> OpSpec:
        """With channels of zeros: as put together with a tensor of them."""
        batch, channels, height, width = channels_first(step.out_shape)
        inside = channels_first(step.shapes[0])[1]
        is_constant = step.attributes.get("mode", b"constant") in (b"constant", "constant")
        if changed_axes(step) != [1] or inside >= channels or not is_constant:
            return self._estimated(step, "Pad")
        return OpSpec("concat", height, width, inside, channels, batch=batch)

    def _like(self, kind: str):
        """A kernel of the size of its input, channels first."""

        def read(step: Step) -> OpSpec:
            batch, channels, height, width = channels_first(step.shapes[0])
            return OpSpec(kind, height, width, channels, channels, batch=batch)

        return read

    def _channels_last(self, kind: str):
        def read(step: Step) -> OpSpec:
            batch, height, width, channels = channels_last(step.shapes[0])
            return OpSpec(kind, height, width, channels, channels, batch=batch)

        return read

    def _activation(self, step: Step) -> OpSpec:
        batch, channels, height, width = channels_first(step.shapes[0])
        sizes = (height, width, channels, channels)
        return OpSpec("activation", *sizes, activation=step.activation, batch=batch)

    def _unary(self, step: Step) -> OpSpec:
        return self._activation(replace(step, activation="relu"))

    def _arithmetic(self, step: Step) -> OpSpec:
        batch, channels, height, width = channels_first(step.out_shape)
        if step.kind in ("Add", "Sub") and len(step.shapes) < 2:
            kind = "add"  # of a constant
        elif len(step.shapes) < 2:
            kind = "multiply"  # by a constant: as broad as by another tensor
        elif step.shapes[0] == step.shapes[1]:
            kind = "multiply" if step.kind in ("Mul", "Div") else "add"
        else:
            kind = "scale"
        return OpSpec(kind, height, width, channels, channels, batch=batch)

    def _square(self, what: str, sizes: Sequence[int]) -> int:
        """One size for both directions: that of the same area."""
        side = max(1, round(math.sqrt(math.prod(sizes)) if len(sizes) == 2 else sizes[0]))
        if len(set(sizes)) > 1:
            shown = "x".join(map(str, sizes))
            self._warn(f"a {what} of {shown} is taken as {side}x{side}")
        return side
