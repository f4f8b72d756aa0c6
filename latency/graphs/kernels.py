"""From the steps of a graph to the kernels that a runtime executes, by the runtime's own rules.

A kernel is an `OpSpec` of one layer, what was fused into it included. Which steps fuse, and which
kernels work in a layout of the runtime's own (so that tensors are reordered on the way there and
back), differs from runtime to runtime (`latency.graphs.fusion`).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from latency.errors import SpecError
from latency.graphs.fusion import USUAL, Fusion
from latency.graphs.non_square import Between, between
from latency.graphs.patterns import Step, steps_of
from latency.graphs.reader import Graph, Sizes
from latency.graphs.step_operators import StepReader
from latency.graphs.step_shapes import area_of, reduced_axes, works_on_plain
from latency.operators.spec import OpSpec


@dataclass(frozen=True)
class Kernel:
    """What a runtime executes as one: an operator, and the nodes of the file that it stands for.
    `between`: of a kernel or a pooled map that is not square, where it is from the operator, which
    is."""

    op: OpSpec
    nodes: tuple[str, ...]
    between: Between | None = None


class Network(Protocol):
    """What can be predicted and counted: a `NetworkSpec`, whose operators are a chain, or a
    `KernelGraph`, whose kernels need not be one.

    `ops` are its operators in order of execution, `parts` those whose latencies add up to the
    network's. `kernels` are empty for a chain. `warnings` describe what could only be approximated.
    `macs` and `params` are those of the whole batch and of the network.
    """

    @property
    def name(self) -> str: ...
    @property
    def ops(self) -> tuple[OpSpec, ...]: ...
    @property
    def parts(self) -> tuple[OpSpec, ...]: ...
    @property
    def kernels(self) -> tuple[Kernel, ...]: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...
    @property
    def batch(self) -> int: ...
    @property
    def macs(self) -> int: ...
    @property
    def params(self) -> int: ...


@dataclass(frozen=True)
class KernelGraph:
    """The kernels of a network, in order of execution; a `Network` whose operators need not be a
    chain. `warnings`: what could only be approximated."""

    name: str
    kernels: tuple[Kernel, ...]
    warnings: tuple[str, ...] = ()

    @property
    def ops(self) -> tuple[OpSpec, ...]:
        return tuple(kernel.op for kernel in self.kernels)

    @property
    def parts(self) -> tuple[OpSpec, ...]:
        """The operators whose latencies add up to the network's: all of them."""
        return self.ops

    @property
    def batch(self) -> int:
        return self.ops[0].batch

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
    start: Step
    """The first step of it."""
    nodes: list[str]
    inputs: list[str]
    output: str
    out_shape: Sizes
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
        follower = "norm" if step.kind == "BatchNormalization" else step.activation
        if step.kind == "Add" and len(step.inputs) == 2:
            return self._fuse_sum(step)
        before = self.writers.get(step.inputs[0])
        if before is None or self.reads.get(step.inputs[0]) != 1 or len(step.inputs) != 1:
            return False
        if step.kind == "Add":
            if not _is_bias(before, step):
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
        kernel.output, kernel.out_shape = step.output, step.out_shape
        self.writers[step.output] = kernel

    def _start(self, step: Step) -> None:
        try:
            is_last = self.channels_last.issuperset(step.inputs)
            start = _channels_first(step) if is_last else step
            op = StepReader(self.warnings).op_of(start)
        except (SpecError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise SpecError(f"node '{step.nodes[0]}' ({step.kind}): {error}") from None
        nodes, inputs = list(step.nodes), list(step.inputs)
        kernel = _Open(op, start, nodes, inputs, step.output, step.out_shape)
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
            works_blocked, reads_blocked = self._layout(kernel, layouts)
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
            area = area_of(kernel.start)
            place = between(kernel.op, area) if area else None
            yield Kernel(kernel.op, tuple(kernel.nodes), place)
        for name in self.graph.outputs:
            if is_blocked.get(name):
                height, width, channels = shape_of[name]
                if height * width > 1:
                    batch = batch_of[name]
                    yield Kernel(
                        OpSpec("reorder", height, width, channels, channels, batch=batch), ()
                    )

    def _layout(self, kernel: _Open, inputs: Sequence[bool]) -> tuple[bool, bool]:
        """Whether a kernel writes, and whether it reads, the runtime's own layout."""
        op, block = kernel.op, self.fusion.block
        if works_on_plain(kernel.start):
            return False, False
        if op.kind in self.fusion.either:
            aligned = op.kind != "concat" or not (op.in_channels % block or op.out_channels % block)
            both = all(inputs) and aligned
            return both, both
        if op.kind not in self.fusion.blocked:
            return False, False
        if op.traits.is_convolution:
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


def _is_bias(before: _Open, step: Step) -> bool:
    """Whether the constant that a step adds becomes the bias of the product before it, as ONNX
    Runtime folds it: one number per channel, added before any activation."""
    (constant,) = step.weights or [()]
    sizes, start = before.out_shape, before.start
    if before.op.activation != "none" or step.shapes[0] != sizes:
        return False
    if before.op.kind == "conv":
        per_channel = (sizes[1], *[1] * (len(sizes) - 2))
        return 1 in step.constants and constant in (per_channel, (1, *per_channel))
    if start.kind != "MatMul" or not start.weights or before.nodes != [*start.nodes]:
        return False
    shapes = [sizes[-1:]] if len(sizes) != 2 else [sizes[-1:], (1, sizes[-1]), sizes]
    return constant in shapes


def _channels_first(step: Step) -> Step:
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
