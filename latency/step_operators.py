"""From one step of a graph to the operator that stands for it."""

import math
from collections.abc import Sequence
from dataclasses import replace

from latency.errors import SpecError
from latency.oblong import nearest_side
from latency.onnx_graph import Sizes
from latency.onnx_patterns import Step
from latency.ops import OpSpec


class StepReader:
    """Steps to operators."""

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
            "ReduceMean": self._reduce,
            "ReduceSum": self._reduce,
            "ReduceMax": self._reduce,
            "Concat": self._concat,
            "Resize": self._resize,
            "Upsample": self._resize,
            "Transpose": self._like("transpose"),
            "Softmax": self._like("softmax"),
            "LogSoftmax": self._like("softmax"),
            "BatchNormalization": self._like("norm"),
            "InstanceNormalization": self._like("layer_norm"),
            "GroupNormalization": self._like("layer_norm"),
            "LRN": self._like("layer_norm"),
            "LayerNormalization": self._channels_last("layer_norm"),
            "activation": self._activation,
            **dict.fromkeys(("Slice", "Split", "Pad", "Gather", "Expand", "Tile"), self._move),
            **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"), self._arithmetic),
            **dict.fromkeys(("Sqrt", "Neg", "Abs", "Reciprocal", "Floor", "Log"), self._unary),
        }.get(step.kind)
        if reader is None:
            return self._unknown(step)
        return reader(step)

    def _unknown(self, step: Step) -> OpSpec:
        """What moves as many bytes as the largest tensor that is read or written."""
        self._warn(f"{step.kind} is estimated from its bytes")
        largest = max((step.out_shape, *step.shapes), key=math.prod)
        return self._move(replace(step, out_shape=largest))

    def _warn(self, said: str) -> None:
        self.warnings[said] = None

    def _conv(self, step: Step) -> OpSpec:
        weight = step.weights[0] if step.weights else ()
        if len(step.out_shape) != 4 or len(weight) != 4:
            self._warn(
                f"{step.kind} of {len(step.out_shape) - 2} dimensions is taken as one of two"
            )
        attributes = step.attributes
        batch, inside, _, _ = _four(step.shapes[0])
        _, outside, height, width = _four(step.out_shape)
        if area := oblong_area(step):
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
        sizes = _side(step.shapes[0][2:], step.out_shape[2:], stride) or (height, width)
        return OpSpec(
            "conv", *sizes, inside, outside, kernel, stride,
            batch=batch, groups=groups, dilation=dilation,
        )  # fmt: skip

    def _conv_transpose(self, step: Step) -> OpSpec:
        batch, inside, height, width = _four(step.shapes[0])
        _, outside, out_height, _ = _four(step.out_shape)
        kernel = self._square("kernel", step.weights[0][2:])
        stride = max(1, round(out_height / height))
        sizes = (height, width, inside, outside, kernel, stride)
        return OpSpec("conv_transpose", *sizes, batch=batch)

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
        batch, channels, height, width = _four(step.shapes[0])
        kernel = self._square("window", step.attributes.get("kernel_shape") or (1,))
        stride = self._square("stride", step.attributes.get("strides") or (1,))
        if kind == "pool":
            _, _, out_height, out_width = _four(step.out_shape)
            height, width = ((out - 1) * stride + kernel for out in (out_height, out_width))
        return OpSpec(kind, height, width, channels, channels, kernel, stride, batch=batch)

    def _global_pool(self, step: Step) -> OpSpec:
        batch, channels, height, width = _four(step.shapes[0])
        side = max(1, round(math.sqrt(height * width)))
        return OpSpec("pool", side, side, channels, channels, side, batch=batch)

    def _reduce(self, step: Step) -> OpSpec:
        """A reduction reads all, and writes next to nothing, as a global pooling does."""
        read, written = step.shapes[0], step.out_shape
        batch = read[0] if len(written) > 1 and written[0] == read[0] else 1
        side = max(1, round(math.sqrt(math.prod(read) / math.prod(written))))
        channels = math.prod(written) // batch
        return OpSpec("pool", side, side, channels, channels, side, batch=batch)

    def _concat(self, step: Step) -> OpSpec:
        batch, channels, height, width = _four(step.out_shape)
        if len(step.shapes) < 2 or channels < 2:
            return self._move(step)
        first = min(channels - 1, max(1, _four(step.shapes[0])[1]))
        return OpSpec("concat", height, width, first, channels, batch=batch)

    def _resize(self, step: Step) -> OpSpec:
        batch, channels, height, width = _four(step.shapes[0])
        _, _, out_height, _ = _four(step.out_shape)
        factor = max(1, round(out_height / height))
        if out_height != factor * height:
            self._warn(f"a resize from {height} to {out_height} is taken as one by {factor}")
        return OpSpec("resize", height, width, channels, channels, 1, factor, batch=batch)

    def _like(self, kind: str):
        """A kernel of the size of its input, channels first."""

        def read(step: Step) -> OpSpec:
            batch, channels, height, width = _four(step.shapes[0])
            return OpSpec(kind, height, width, channels, channels, batch=batch)

        return read

    def _channels_last(self, kind: str):
        def read(step: Step) -> OpSpec:
            batch, height, width, channels = _last(step.shapes[0])
            return OpSpec(kind, height, width, channels, channels, batch=batch)

        return read

    def _activation(self, step: Step) -> OpSpec:
        batch, channels, height, width = _four(step.shapes[0])
        sizes = (height, width, channels, channels)
        return OpSpec("activation", *sizes, activation=step.activation, batch=batch)

    def _unary(self, step: Step) -> OpSpec:
        return self._activation(replace(step, activation="relu"))

    def _arithmetic(self, step: Step) -> OpSpec:
        batch, channels, height, width = _four(step.out_shape)
        sizes = (height, width, channels, channels)
        if len(step.shapes) < 2:
            kind = "multiply"  # by a constant: as broad as by another tensor
        elif step.shapes[0] == step.shapes[1]:
            kind = "multiply" if step.kind in ("Mul", "Div") else "add"
        else:
            kind = "scale"
        return OpSpec(kind, *sizes, batch=batch)

    def _move(self, step: Step) -> OpSpec:
        """What is copied, as a slice of channels from a tensor of more."""
        batch, channels, height, width = _four(step.out_shape)
        return OpSpec("slice", height, width, 2 * channels, channels, batch=batch)

    def _square(self, what: str, sizes: Sequence[int]) -> int:
        """One size for both directions: that of the same area."""
        side = max(1, round(math.sqrt(math.prod(sizes)) if len(sizes) == 2 else sizes[0]))
        if len(set(sizes)) > 1:
            shown = "x".join(map(str, sizes))
            self._warn(f"a {what} of {shown} is taken as {side}x{side}")
        return side


def oblong_area(step: Step) -> int | None:
    """The area of a convolution's kernel that is not square; None of any other step."""
    sizes = step.weights[0][2:] if step.kind == "Conv" and step.weights else ()
    return math.prod(sizes) if len(sizes) == 2 and sizes[0] != sizes[1] else None


def _four(shape: Sizes) -> tuple[int, int, int, int]:
    """(batch, channels, height, width) of a tensor of any rank, channels first."""
    if len(shape) == 4:
        return (shape[0], shape[1], shape[2], shape[3])
    if len(shape) < 2:
        return (1, math.prod(shape), 1, 1)
    batch, channels, *rest = shape
    height = rest[0] if rest else 1
    return (batch, channels, height, math.prod(rest[1:]))


def _last(shape: Sizes) -> tuple[int, int, int, int]:
    """(batch, height, width, channels) of a tensor of any rank, channels last."""
    if len(shape) < 2:
        return (1, 1, 1, math.prod(shape))
    batch, *rest, channels = shape
    height = rest[0] if rest else 1
    return (batch, height, math.prod(rest[1:]), channels)


def _side(inside: Sizes, outside: Sizes, stride: int) -> tuple[int, int] | None:
    """The input of a padded convolution that has this output; the true one where it does."""
    if len(inside) != 2:
        return None
    true = tuple(-(-size // stride) for size in inside)
    if true == tuple(outside):
        return (inside[0], inside[1])
    return (outside[0] * stride, outside[1] * stride)
