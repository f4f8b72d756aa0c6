"""From the steps of a graph to the kernels that a runtime executes, by the runtime's own rules.

A kernel is an `OpSpec` of one layer together with what was fused into it. Which steps fuse, and
which kernels work in a layout of the runtime's own, so that tensors are reordered before and after
them, differs from runtime to runtime (`latency.graphs.fusion`).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol

from latency.errors import SpecError
from latency.graphs.folding import Sizes
from latency.graphs.fusion import USUAL, Fusion
from latency.graphs.non_square import Bounds, bounds_of
from latency.graphs.patterns import Step, steps_of
from latency.graphs.reader import Graph
from latency.graphs.step_operators import StepReader
from latency.graphs.step_shapes import area_of, to_channels_first
from latency.operators.kinds import Shape
from latency.operators.spec import OpSpec


@dataclass(frozen=True)
class Kernel:
    """What a runtime executes as one: an operator, and the names of its nodes in the file.
    `bounds`: of a kernel or a pooled map that is not square, between which squares it is."""

    op: OpSpec
    nodes: tuple[str, ...]
    bounds: Bounds | None = None


class Network(Protocol):
    """What can be predicted: a `NetworkSpec`, whose operators form a chain, or a `KernelGraph`.

    `ops`: its operators in order of execution; `parts`: those whose latencies add up to its own;
    `kernels`: empty for a chain; `warnings`: what could only be approximated; `macs`: those of the
    whole batch.
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
    """The kernels of a network, in order of execution; its operators need not be a chain.
    `warnings`: what could only be approximated. `macs` are those of the whole batch."""

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
    """Split a graph into the kernels that a runtime with these fusion rules executes. Raises
    `SpecError` for nodes that do not follow ONNX, or that no operator describes."""
    try:
        return _Splitter(graph, fusion).split()
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise SpecError(f"network '{graph.name}': broken ONNX graph: {error!r}") from None


@dataclass
class _Open:
    """A kernel that later steps may still be fused into. `start`: its first step."""

    op: OpSpec
    start: Step
    nodes: list[str]
    inputs: list[str]
    output: str
    out_shape: Sizes
    number: int


_PADDED = frozenset(("Conv", "MaxPool", "AveragePool"))
"""Kinds of steps that a padding before them may be fused into."""


class _Splitter:
    """`kernels`: by number, in order of execution. `writers`: the kernel that writes a tensor.
    `reads`: how many read a tensor, and `readers` the kinds of these steps. `names`: a tensor that
    is padded by the kernel that reads it, to the tensor before the padding. `channels_last`:
    tensors whose channels are the last axis."""

    def __init__(self, graph: Graph, fusion: Fusion) -> None:
        self.graph, self.fusion = graph, fusion
        self.steps = steps_of(graph)
        self.kernels: dict[int, _Open] = {}
        self.writers: dict[str, _Open] = {}
        self.reads = Counter(graph.outputs)
        self.readers: defaultdict[str, set[str]] = defaultdict(set)
        for step in self.steps:
            for name in set(step.inputs):
                self.reads[name] += 1
                self.readers[name].add(step.kind)
        self.numbers = count()
        self.names: dict[str, str] = {}
        self.channels_last: set[str] = set()
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
        if step.kind == "Transpose":
            return tuple(step.attributes.get("perm", ())) == (0, 2, 3, 1)
        return bool(step.inputs) and self.channels_last.issuperset(step.inputs)

    def _fuse(self, step: Step) -> bool:
        """Fuse a step into the kernel before or after it; False if the rules do not allow it."""
        if step.kind == "Pad":
            return self._fuse_padding(step)
        if step.kind == "Add" and len(step.inputs) == 2:
            return self._fuse_sum(step)
        before = self.writers.get(step.inputs[0])
        if before is None or len(step.inputs) != 1 or self.reads[step.inputs[0]] != 1:
            return False
        if before.op.activation != "none" or not step.may_fuse:
            return False
        if step.kind == "Add":
            if not _is_bias(before, step):
                return False
        else:
            follower = "norm" if step.kind == "BatchNormalization" else step.activation
            if f"{before.op.kind}+{follower}" not in self.fusion.pairs:
                return False
            if follower != "norm":
                before.op = replace(before.op, activation=follower)
        self._extend(before, step)
        return True

    def _fuse_padding(self, step: Step) -> bool:
        if "pad+conv" not in self.fusion.pairs or not self.readers[step.output] <= _PADDED:
            return False
        source = step.inputs[0]
        self.names[step.output] = source
        self.reads[source] += self.reads[step.output] - 1
        return True

    def _fuse_sum(self, step: Step) -> bool:
        """Fuse a sum into the later one of the two convolutions before it."""
        if "conv+add" not in self.fusion.pairs or step.shapes[0] != step.shapes[1]:
            return False
        before = [self.writers[name] for name in step.inputs if name in self.writers]
        for kernel in sorted(before, key=lambda kernel: -kernel.number):
            is_free = kernel.output in step.inputs and self.reads[kernel.output] == 1
            if kernel.op.kind == "conv" and kernel.op.activation == "none" and is_free:
                kernel.op = replace(kernel.op, kind="conv_add")
                kernel.inputs += [name for name in step.inputs if name != kernel.output]
                self._extend(kernel, step)
                del self.kernels[kernel.number]
                kernel.number = next(self.numbers)
                self.kernels[kernel.number] = kernel
                return True
        return False

    def _extend(self, kernel: _Open, step: Step) -> None:
        kernel.nodes += step.nodes
        kernel.output, kernel.out_shape = step.output, step.out_shape
        self.writers[step.output] = kernel

    def _start(self, step: Step) -> None:
        is_last = self.channels_last.issuperset(step.inputs)
        try:
            start = to_channels_first(step) if is_last else step
            op = StepReader(self.warnings).op_of(start)
        except (SpecError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise SpecError(f"node '{step.nodes[0]}' ({step.kind}): {error}") from None
        number, nodes, inputs = next(self.numbers), list(step.nodes), list(step.inputs)
        kernel = _Open(op, start, nodes, inputs, step.output, step.out_shape, number)
        self.kernels[number] = self.writers[step.output] = kernel

    def _with_reorders(self) -> Iterable[Kernel]:
        """The kernels, and the reorderings between those of different layouts."""
        written = {kernel.output: kernel.op for kernel in self.kernels.values()}
        blocked: set[str] = set()
        done: set[tuple[str, bool]] = set()
        for kernel in self.kernels.values():
            op = kernel.op
            layouts = [name in blocked for name in kernel.inputs]
            writes_blocked, reads_blocked = self._layout(kernel, layouts)
            for name, layout in zip(kernel.inputs, layouts, strict=True):
                if layout == reads_blocked or (name, reads_blocked) in done:
                    continue
                done.add((name, reads_blocked))
                shape = op.height, op.width, op.in_channels
                if name in written and math.prod(written[name].out_shape) != math.prod(shape):
                    shape = written[name].out_shape
                yield from _reorder(shape, op.batch)
            if writes_blocked:
                blocked.add(kernel.output)
            turns = op.kind == "transpose" and "reorder+transpose" in self.fusion.pairs
            if not (turns and all(layouts)):
                area = area_of(kernel.start)
                bounds = bounds_of(op, area) if area else None
                yield Kernel(op, tuple(kernel.nodes), bounds)
        for name in self.graph.outputs:
            if name in blocked:
                yield from _reorder(written[name].out_shape, written[name].batch)

    def _layout(self, kernel: _Open, inputs: Sequence[bool]) -> tuple[bool, bool]:
        """Whether a kernel writes, and whether it reads, the runtime's own layout."""
        op, block, start = kernel.op, self.fusion.block, kernel.start
        adds_constant = start.kind in ("Add", "Sub") and len(start.shapes) < 2
        if start.kind == "Pad" or adds_constant:
            return False, False
        if op.kind in self.fusion.either:
            aligned = op.kind != "concat" or op.in_channels % block == op.out_channels % block == 0
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


def _reorder(shape: Shape, batch: int) -> Iterable[Kernel]:
    """The kernel that copies a tensor into another layout; none for a vector."""
    height, width, channels = shape
    if height * width > 1:
        yield Kernel(OpSpec("reorder", height, width, channels, channels, batch=batch), ())


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
