"""`Layer`: the primitive layers of operators, and the traits of each kind of layer."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

Shape = tuple[int, int, int]
"""(height, width, channels)"""

INPUT, OTHER = "input", "other"
"""Names of an operator's input, and of the second one (`latency.operators.kinds.other_shape`)."""

Weight = tuple[int, ...]
"""Shape of a weight as torch and ONNX store it."""


@dataclass(frozen=True)
class LayerKind:
    """Traits of a kind of layer.

    `weight`: shape of its weight, if any. `macs`: multiply-accumulates of one sample.
    `channels_last`: works along the channels, as the last axis. `is_flat`: takes and returns
    (batch, features). `is_identity`: its output is its input. `turns`: returns the channels as the
    last axis. `copies`: reads as many numbers as it writes, whatever the size of its inputs.
    """

    weight: Callable[["Layer"], Weight] | None = None
    macs: Callable[["Layer"], int] = lambda layer: 0
    channels_last: bool = False
    is_flat: bool = False
    is_identity: bool = False
    turns: bool = False
    copies: bool = False


@dataclass(frozen=True)
class Layer:
    """A primitive layer.

    `conv`, `conv_transpose`, `linear`, `matmul` (mixes the channels of each pixel), `pool`
    (average), `max_pool`, `avg_pool` (padded; the padding is not counted), `add` or `multiply`
    (broadcasting), `norm` (batch norm alone), `layer_norm` (over channels), `concat` and `slice`
    (from `start`) of channels, `pad` (with channels of zeros), `shuffle` (of the channels of
    `groups`), `transpose` (to channels last), `resize` (nearest, by `stride`), `softmax` (over
    channels), `reorder` (to a runtime's own layout), or `identity`.

    `norm`: followed by batch norm (folded in a deployed graph), else by `bias`, if it has a weight.
    `activation` is applied last. `droppable`: number of its first inputs that path dropout may
    leave out in training.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    in_shape: Shape
    out_shape: Shape
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    groups: int = 1
    norm: bool = False
    activation: str = "none"
    dilation: int = 1
    bias: bool = True
    start: int = 0
    droppable: int = 0

    @property
    def traits(self) -> LayerKind:
        """The record of the layer's kind."""
        return LAYER_KINDS[self.kind]

    @property
    def weight_shape(self) -> Weight:
        """Shape of the weight as torch and ONNX store it; () without one."""
        return self.traits.weight(self) if self.traits.weight else ()

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) of a convolution: half of an odd kernel on each side; for an
        even one as the output needs, the larger half at the bottom and right."""
        before, after = [], []
        for axis in (0, 1):
            reach = (self.kernel[axis] - 1) * self.dilation + 1
            if reach % 2:
                total = reach - 1
            else:
                total = max(0, (self.out_shape[axis] - 1) * self.stride + reach)
                total = max(0, total - self.in_shape[axis])
            before.append(total // 2)
            after.append(total - total // 2)
        return (before[0], before[1], after[0], after[1])

    @property
    def trimming(self) -> tuple[int, int]:
        """Rows, and columns, that a transposed convolution cuts off before and after, so that its
        output is `stride` times its input; a negative number adds zeros."""
        total = self.kernel[0] - self.stride
        before = max(0, total - total // 2)
        return before, total - before

    @property
    def is_nothing(self) -> bool:
        """Whether the layer's output is its input."""
        return self.traits.is_identity and self.activation == "none"

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return self.traits.macs(self)

    @property
    def params(self) -> int:
        """Weights, plus scale and shift of batch norm or a bias."""
        if not self.weight_shape:
            return 0
        vectors = 2 if self.norm else int(self.bias)
        return prod(self.weight_shape) + self.out_shape[2] * vectors

    @property
    def activations(self) -> int:
        """Numbers read and written for one sample, without weights."""
        if self.is_nothing:
            return 0
        if self.traits.copies:
            return 2 * prod(self.out_shape)
        return prod(self.in_shape) * len(self.inputs) + prod(self.out_shape)


def _conv(layer: Layer) -> Weight:
    return (layer.out_shape[2], layer.in_shape[2] // layer.groups, *layer.kernel)


def _conv_transpose(layer: Layer) -> Weight:
    return (layer.in_shape[2], layer.out_shape[2], *layer.kernel)


def _matrix(layer: Layer) -> Weight:
    return (layer.out_shape[2], layer.in_shape[2])


def _vector(layer: Layer) -> Weight:
    return (layer.out_shape[2],)


def _per_output(layer: Layer) -> int:
    """Multiply-accumulates of a weight that is applied to each output pixel."""
    return prod(layer.out_shape[:2]) * prod(layer.weight_shape)


def _per_input(layer: Layer) -> int:
    """Multiply-accumulates of a weight that is applied to each input pixel."""
    return prod(layer.in_shape[:2]) * prod(layer.weight_shape)


LAYER_KINDS: dict[str, LayerKind] = {
    "conv": LayerKind(_conv, _per_output),
    "conv_transpose": LayerKind(_conv_transpose, _per_input),
    "linear": LayerKind(_matrix, _per_output, is_flat=True),
    "matmul": LayerKind(_matrix, _per_output, channels_last=True),
    "pool": LayerKind(),
    "max_pool": LayerKind(),
    "avg_pool": LayerKind(),
    "add": LayerKind(),
    "multiply": LayerKind(),
    "norm": LayerKind(_vector),
    "layer_norm": LayerKind(_vector, channels_last=True),
    "concat": LayerKind(copies=True),
    "slice": LayerKind(copies=True),
    "pad": LayerKind(),
    "shuffle": LayerKind(),
    "transpose": LayerKind(turns=True),
    "resize": LayerKind(),
    "softmax": LayerKind(channels_last=True),
    "reorder": LayerKind(),
    "identity": LayerKind(is_identity=True),
}
"""Kind of layer to its traits."""
