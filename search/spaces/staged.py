"""`StagedSpace`: a search space of stages, described by a TOML file.

The sections below list all keys and defaults; `mbv3.toml` in this folder is an example.
"""

from dataclasses import replace
from itertools import product
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from latency.candidates import Block
from latency.errors import unknown_name
from latency.operators.kinds import ACTIVATIONS
from latency.operators.spec import OpSpec
from latency.toml_file import Section
from search.space import SearchSpace
from search.spaces.bounds import MOST_CLASSES, MOST_RESOLUTION

Value = TypeVar("Value")


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("should be odd, such as 3, 5 or 7")
    return kernel


def _known_activation(name: str) -> str:
    if name not in ACTIVATIONS:
        raise ValueError(str(unknown_name("activation", name, ACTIVATIONS)))
    return name


def _as_range(depth: Any) -> Any:
    """3 means exactly 3 blocks, [2, 4] from 2 to 4."""
    match depth:
        case int():
            return depth, depth
        case [int(least), int(most)] if least <= most:
            return least, most
    raise ValueError("should be a number of blocks, such as 3, or [least, most], such as [2, 4]")


Channels = Annotated[int, Field(ge=1, le=65536)]
Kernel = Annotated[int, Field(ge=1, le=31), AfterValidator(_odd)]
Stride = Annotated[int, Field(ge=1, le=8)]
Expansion = Annotated[float, Field(gt=0, le=64, allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Activation = Annotated[str, AfterValidator(_known_activation)]
Kind = Literal["mbconv", "conv"]
Several = Annotated[list[Value], Field(min_length=1)]
Depth = Annotated[tuple[Channels, Channels], BeforeValidator(_as_range)]


class CandidateSection(Section):
    """`[candidates]`: a block's candidates are all combinations, the kernel varying fastest.

    `kinds`: `mbconv`, an inverted bottleneck, or `conv`, a plain convolution, which ignores
    expansion and squeeze-excite. `squeeze_excite`: ratio of squeezed to hidden channels, 0 for
    none.
    """

    kinds: Several[Kind] = Field(["mbconv"])
    kernels: Several[Kernel] = Field([3, 5, 7])
    expansions: Several[Expansion] = Field([3, 6])
    squeeze_excite: Several[Ratio] = Field([0])
    activations: Several[Activation] = Field(["relu6"])

    def operators(
        self, size: int, in_channels: int, out_channels: int, stride: int, batch: int
    ) -> list[OpSpec]:
        """The distinct candidates on a `size` x `size` x `in_channels` input."""
        ops = []
        for kind, activation, ratio, expansion, kernel in product(
            self.kinds, self.activations, self.squeeze_excite, self.expansions, self.kernels
        ):
            shape = (size, size, in_channels, out_channels, kernel, stride)
            op = OpSpec(kind, *shape, activation=activation, batch=batch)
            if kind == "mbconv":
                op = replace(op, expansion=expansion, squeeze_excite=ratio)
            ops.append(op)
        return list(dict.fromkeys(ops))


class StageSection(CandidateSection):
    """`[[stages]]`: searchable blocks of `channels` channels, the first one with the stride.

    `depth`: the number of blocks, or [least, most]: those after the least may be skipped. A
    stage's keys override those of `[candidates]`.
    """

    channels: Channels
    depth: Depth
    stride: Stride = 1


class LayerSection(Section):
    """What the operators of the stem have in common."""

    channels: Channels
    kernel: Kernel = 3
    stride: Stride = 1
    activation: Activation = "relu6"


class BlockSection(LayerSection):
    """`[[stem.blocks]]`: a fixed inverted bottleneck."""

    expansion: Expansion = 1
    squeeze_excite: Ratio = 0


class StemSection(LayerSection):
    """`[stem]`: a convolution on the image, then fixed blocks."""

    stride: Stride = 2
    blocks: list[BlockSection] = Field([])


class HeadSection(Section):
    """`[head]`: a 1x1 convolution to `features` channels, global average pooling, a linear layer
    to `hidden` if it is given, and the classifier. The last layer before the classifier is scaled
    by width multipliers above 1 only, as in MobileNetV2."""

    features: Channels
    hidden: Channels | None = None
    activation: Activation = "relu6"


class StagedSpace(Section):
    """A whole file. `resolution` and `classes` are defaults of the options of `build`."""

    resolution: Annotated[int, Field(ge=1, le=MOST_RESOLUTION)]
    classes: Annotated[int, Field(ge=1, le=MOST_CLASSES)] = 1000
    candidates: CandidateSection = CandidateSection()
    stem: StemSection
    stages: Annotated[list[StageSection], Field(min_length=1)]
    head: HeadSection

    @model_validator(mode="before")
    @classmethod
    def _stages_inherit(cls, content: Any) -> Any:
        """Give each stage the keys of `[candidates]` that it does not override."""
        match content:
            case {"stages": [*stages], "candidates": dict(common)} if common:
                common = {k: v for k, v in common.items() if k in CandidateSection.model_fields}
                merged = [{**common, **s} if isinstance(s, dict) else s for s in stages]
                return {**content, "stages": merged}
        return content

    def build(
        self,
        name: str,
        resolution: int | None = None,
        width: float = 1.0,
        classes: int | None = None,
        batch: int = 1,
    ) -> SearchSpace:
        """The space at a resolution, width multiplier, number of classes and batch size."""
        resolution = self.resolution if resolution is None else resolution
        classes = self.classes if classes is None else classes
        stem = _stem(self.stem, resolution, width, batch)
        size, _, channels = stem[-1].out_shape
        blocks: list[Block] = []
        for stage in self.stages:
            least, most = stage.depth
            out_channels = _scaled(stage.channels, width)
            for position in range(most):
                stride = stage.stride if position == 0 else 1
                ops = stage.operators(size, channels, out_channels, stride, batch)
                blocks.append((*ops, None) if position >= least else tuple(ops))
                size, channels = -(-size // stride), out_channels
        head = _head(self.head, size, channels, width, classes, batch)
        return SearchSpace(name, resolution, classes, stem, tuple(blocks), head)


def divisible(channels: float) -> int:
    """The nearest multiple of 8, but not more than 10 % below `channels`, as in the MobileNets."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _scaled(channels: int, width: float) -> int:
    """Unchanged at width 1, else a multiple of 8."""
    return channels if width == 1 else divisible(channels * width)


def _stem(stem: StemSection, size: int, width: float, batch: int) -> tuple[OpSpec, ...]:
    ops: list[OpSpec] = []
    layers: list[LayerSection] = [stem, *stem.blocks]
    for layer in layers:
        op = OpSpec(
            "conv",
            *(ops[-1].out_shape if ops else (size, size, 3)),
            _scaled(layer.channels, width),
            layer.kernel,
            layer.stride,
            activation=layer.activation,
            batch=batch,
        )
        if isinstance(layer, BlockSection):
            ratio = layer.squeeze_excite
            op = replace(op, kind="mbconv", expansion=layer.expansion, squeeze_excite=ratio)
        ops.append(op)
    return tuple(ops)


def _head(
    head: HeadSection, size: int, channels: int, width: float, classes: int, batch: int
) -> tuple[OpSpec, ...]:
    last = max(width, 1.0)
    features = _scaled(head.features, width if head.hidden else last)
    ops = [
        OpSpec("conv", size, size, channels, features, activation=head.activation, batch=batch),
        OpSpec("pool", size, size, features, features, size, batch=batch),
    ]
    if head.hidden:
        hidden = _scaled(head.hidden, last)
        ops.append(
            OpSpec("linear", 1, 1, features, hidden, activation=head.activation, batch=batch)
        )
        features = hidden
    return (*ops, OpSpec("linear", 1, 1, features, classes, batch=batch))
