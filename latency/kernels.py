"""From the steps of a graph to the kernels that a runtime executes, by the runtime's own rules.

A kernel is an `OpSpec` of one layer, what was fused into it included. Which steps fuse, and which
kernels work in a layout of the runtime's own (so that tensors are reordered on the way there and
back), differs from runtime to runtime: `Fusion` is measured (`devices.fusion`) and stands in the
header of a device's table.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from latency.errors import SpecError
from latency.oblong import Between, between, nearest_side
from latency.onnx_graph import Graph, Sizes
from latency.onnx_patterns import Step, steps_of
from latency.ops import OpSpec

SUITE, FUSION = "kernels", "fusion"
"""What the suite of kernels is called in a table's header, and the key of the rules there."""


@dataclass(frozen=True)
class Fusion:
    """The rules of a runtime.

    `pairs`: "conv+relu" says that a ReLU after a convolution costs no kernel of its own. `blocked`:
    kinds that work in the runtime's own layout of `block` channels together; `either`: kinds that
    take what they get. All others work on plain tensors.
    """

    pairs: frozenset[str] = frozenset()
    blocked: frozenset[str] = frozenset()
    either: frozenset[str] = frozenset()
    block: int = 1

    def __str__(self) -> str:
        parts = {"pairs": self.pairs, "blocked": self.blocked, "either": self.either}
        words = [f"{name}={','.join(sorted(kinds))}" for name, kinds in parts.items() if kinds]
        return " ".join([*words, f"block={self.block}"])

    @classmethod
    def parse(cls, text: str) -> Self:
        """The rules that `str` wrote; `SpecError` for anything else."""
        try:
            found = dict(word.split("=") for word in text.split())
            block = int(found.pop("block", "1"))
            kinds = {name: frozenset(listed.split(",")) - {""} for name, listed in found.items()}
            rules = cls(**kinds, block=block)
        except (ValueError, TypeError):
            rules = None
        if rules is None or str(rules) != text or rules.block < 1:
            raise SpecError(f"'{text[:200]}' are no rules of fusion")
        return rules


USUAL = Fusion(
    frozenset(f"{kind}+{name}" for kind in ("conv", "linear") for name in ("norm", "relu", "relu6"))
)
"""What every runtime fuses."""


@dataclass(frozen=True)
class Kernel:
    """What a runtime executes as one: an operator, and the nodes of the file that it stands for.
    `between`: of a convolution that is not square, where it is from the operator, which is."""

    op: OpSpec
    nodes: tuple[str, ...]
    between: Between | None = None


@dataclass(frozen=True)
class KernelGraph:
    """The kernels of a network, in order of execution; a `NetworkSpec` whose operators need not be
    a chain. `warnings`: what could only be approximated, in words."""

    name: str
    kernels: tuple[Kernel, ...]
    warnings: tuple[str, ...] = ()

    @property
    def ops(self) -> tuple[OpSpec, ...]:
        return tuple(kernel.op for kernel in self.kernels)

    @property
    def macs(self) -> int:
        return sum(op.macs for op in self.ops)

    @property
    def params(self) -> int:
        return sum(op.params for op in self.ops)


def kernels_of(graph: Graph, fusion: Fusion = USUAL) -> KernelGraph:
    """Split a graph into the kernels that a runtime of these rules executes. `SpecError` where its
    nodes are not what ONNX says they are."""
    try:
        return _Splitter(graph, fusion).split()
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise SpecError(f"network '{graph.name}': broken ONNX graph: {error!r}") from None


@dataclass
class _Open:
    """A kernel that may still take in what follows."""

    op: OpSpec
    nodes: list[str]
    inputs: list[str]
    output: str
    area: int | None = None
    """Of a convolution's kernel that is not square, in pixels."""
    number: int = 0


_PADDED = frozenset(("Conv", "MaxPool", "AveragePool"))
"""Kinds of steps that may take in a padding before them."""


class _Splitter:
    def __init__(self, graph: Graph, fusion: Fusion) -> None:
        self.graph, self.fusion = graph, fusion
        self.steps = steps_of(graph)
        self.kernels: dict[int, _Open] = {}
        """By their numbers, in order of execution."""
        self.writers: dict[str, _Open] = {}
        self.reads: dict[str, int] = {}
        self.readers: dict[str, set[str]] = {}
        """Kinds of the steps that read a tensor."""
        for step in self.steps:
            for name in set(step.inputs):
                self.reads[name] = self.reads.get(name, 0) + 1
                self.readers.setdefault(name, set()).add(step.kind)
        for name in graph.outputs:
            self.reads[name] = self.reads.get(name, 0) + 1
        self.count = 0
        self.names: dict[str, str] = {}
        """A tensor that is computed on the way into the kernel that reads it: what it is read
        from."""
        self.channels_last: set[str] = set()
        """Tensors whose channels are the last axis."""
        self.warnings: dict[str, None] = {}

    def split(self) -> KernelGraph:
        for each in self.steps:
            step = replace(each, inputs=tuple(self.names.get(n, n) for n in each.inputs))
            if self._is_channels_last(step):
                self.channels_last.add(step.output)
            if step.inputs and 0 not in step.out_shape and not self._fuse(step):
                self._start(step)
        kernels = tuple(self._with_reorders())
        if not kernels:
            raise SpecError(f"network '{self.graph.name}' computes nothing")
        return KernelGraph(self.graph.name, kernels, tuple(self.warnings))

    def _is_channels_last(self, step: Step) -> bool:
        """Whether a step writes a tensor with its channels last."""
        if step.kind == "Transpose":
            return tuple(step.attributes.get("perm", ())) == (0, 2, 3, 1)
        return bool(step.inputs) and self.channels_last.issuperset(step.inputs)

    def _fuse(self, step: Step) -> bool:
        """Put a step into the kernel before it, where the rules say so."""
        if step.kind == "Pad" and self.readers.get(step.output, set()) <= _PADDED:
            if "pad+conv" in self.fusion.pairs:
                source = step.inputs[0]
                self.names[step.output] = source
                self.reads[source] += self.reads.get(step.output, 0) - 1
                return True
            return False
        if not step.may_fuse:
            return False
        is_bias = step.kind == "Add" and len(step.inputs) == 1
        follower = "norm" if step.kind == "BatchNormalization" else step.activation
        if step.kind == "Add" and len(step.inputs) == 2:
            return self._fuse_sum(step)
        before = self.writers.get(step.inputs[0])
        if before is None or self.reads.get(step.inputs[0]) != 1 or len(step.inputs) != 1:
            return False
        if is_bias:
            if before.op.kind not in ("conv", "linear", "matmul", "conv_transpose"):
                return False
        elif (
            follower == "none"
            or f"{before.op.kind}+{follower}" not in self.fusion.pairs
            or before.op.activation != "none"
        ):
            return False
        elif follower != "norm":
            before.op = replace(before.op, activation=follower)
        self._take(before, step)
        return True

    def _fuse_sum(self, step: Step) -> bool:
        """A sum into the later one of the two convolutions before it."""
        if "conv+add" not in self.fusion.pairs or step.shapes[0] != step.shapes[1]:
            return False
        before = {name: self.writers[name] for name in step.inputs if name in self.writers}
        whole = [kernel for name, kernel in before.items() if kernel.output == name]
        for kernel in sorted(whole, key=lambda kernel: -kernel.number):
            is_free = self.reads.get(kernel.output) == 1
            if kernel.op.kind == "conv" and kernel.op.activation == "none" and is_free:
                kernel.op = replace(kernel.op, kind="conv_add")
                kernel.inputs += [name for name in step.inputs if name != kernel.output]
                self._take(kernel, step)
                self._append(self.kernels.pop(kernel.number))
                return True
        return False

    def _take(self, kernel: _Open, step: Step) -> None:
        kernel.nodes += step.nodes
        kernel.output = step.output
        self.writers[step.output] = kernel

    def _start(self, step: Step) -> None:
        try:
            is_last = self.channels_last.issuperset(step.inputs)
            op = _Reader(self.warnings).op_of(_channels_first(step) if is_last else step)
        except (SpecError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise SpecError(f"node '{step.nodes[0]}' ({step.kind}): {error}") from None
        kernel = _Open(op, list(step.nodes), list(step.inputs), step.output, _oblong(step))
        self._append(kernel)
        self.writers[step.output] = kernel

    def _append(self, kernel: _Open) -> None:
        kernel.number = self.count
        self.kernels[self.count] = kernel
        self.count += 1

    def _with_reorders(self) -> Iterable[Kernel]:
        """The kernels, and the reorderings between those of different layouts."""
        is_blocked: dict[str, bool] = {}
        kernels = self.kernels.values()
        shape_of = {kernel.output: kernel.op.out_shape for kernel in kernels}
        batch_of = {kernel.output: kernel.op.batch for kernel in kernels}
        done: set[tuple[str, bool]] = set()
        for kernel in kernels:
            layouts = [is_blocked.get(name, False) for name in kernel.inputs]
            works_blocked, reads_blocked = self._layout(kernel.op, layouts)
            turns = kernel.op.kind == "transpose" and "reorder+transpose" in self.fusion.pairs
            for name, layout in zip(kernel.inputs, layouts, strict=True):
                if layout == reads_blocked or (name, reads_blocked) in done:
                    continue
                done.add((name, reads_blocked))
                own = (kernel.op.height, kernel.op.width, kernel.op.in_channels)
                height, width, channels = written = shape_of.get(name, own)
                if math.prod(own) == math.prod(written):
                    height, width, channels = own
                if height * width > 1:
                    batch = kernel.op.batch
                    yield Kernel(
                        OpSpec("reorder", height, width, channels, channels, batch=batch), ()
                    )
            is_blocked[kernel.output] = works_blocked
            if turns and all(layouts):
                continue
            place = between(kernel.op, kernel.area) if kernel.area else None
            yield Kernel(kernel.op, tuple(kernel.nodes), place)
        for name in self.graph.outputs:
            if is_blocked.get(name):
                height, width, channels = shape_of[name]
                if height * width > 1:
                    sizes = (height, width, channels, channels)
                    yield Kernel(OpSpec("reorder", *sizes, batch=batch_of[name]), ())

    def _layout(self, op: OpSpec, inputs: Sequence[bool]) -> tuple[bool, bool]:
        """Whether a kernel writes, and whether it reads, the runtime's own layout."""
        block = self.fusion.block
        if op.kind in self.fusion.either:
            aligned = op.kind != "concat" or not (op.in_channels % block or op.out_channels % block)
            both = all(inputs) and aligned
            return both, both
        if op.kind not in self.fusion.blocked:
            return False, False
        if op.kind in ("conv", "conv_add"):
            if op.groups > 1 and op.groups != op.in_channels:
                shares = (op.in_channels // op.groups, op.out_channels // op.groups)
                fits = not any(share % block for share in shares)
                return fits, fits
            if op.groups == 1 and op.in_channels < block:
                return True, False
            if op.in_channels % 4:
                return False, False
        elif op.in_channels % block:
            return False, False
        return True, True


def _channels_first(step: Step) -> Step:
    """A step on tensors with channels last as one on tensors with channels first; matrix products
    and norms over channels are read with channels last."""
    if step.kind in ("MatMul", "Gemm", "LayerNormalization"):
        return step

    def turned(shape: Sizes) -> Sizes:
        return (shape[0], shape[-1], *shape[1:-1]) if len(shape) == 4 else shape

    shapes = tuple(turned(shape) for shape in step.shapes)
    return replace(step, shapes=shapes, out_shape=turned(step.out_shape))


class _Reader:
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
        if area := _oblong(step):
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


def _oblong(step: Step) -> int | None:
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
