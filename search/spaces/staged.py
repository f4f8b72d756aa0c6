"""`StagedSpace`: a search space of stages as a TOML file describes it.

Every key with its default is in the sections below; `mbv3.toml` beside this file is an example.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from latency.errors import unknown_name
from latency.operators.kinds import ACTIVATIONS
from latency.operators.spec import OpSpec
from search.space import SearchSpace
from search.spaces.bounds import MOST_CLASSES, MOST_RESOLUTION
from search.spaces.inverted import Candidates, Stage, divisible, final_size, searchable_blocks
from search.toml_file import Section, read_toml

Value = TypeVar("Value")


def _each_once(values: list[Value]) -> list[Value]:
    if len(set(values)) < len(values):
        raise ValueError("stands in the list twice; each value once")
    return values


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("a kernel is odd, such as 3, 5 or 7")
    return kernel


def _known_activation(name: str) -> str:
    if name not in ACTIVATIONS:
        raise ValueError(str(unknown_name("activation", name, ACTIVATIONS)))
    return name


def _as_range(depth: Any) -> Any:
    """3 means exactly 3 blocks, [2, 4] from 2 to 4 of them."""
    if isinstance(depth, int):
        return depth, depth
    if isinstance(depth, list) and len(depth) == 2:
        return tuple(depth)
    raise ValueError("a number of blocks is wanted, such as 3, or [least, most], such as [2, 4]")


def _ascending(depth: tuple[int, int]) -> tuple[int, int]:
    if depth[0] > depth[1]:
        raise ValueError(f"[least, most] is wanted, not [{depth[0]}, {depth[1]}]")
    return depth


Channels = Annotated[int, Field(ge=1, le=65536)]
Kernel = Annotated[int, Field(ge=1, le=31), AfterValidator(_odd)]
Stride = Annotated[int, Field(ge=1, le=8)]
Expansion = Annotated[float, Field(gt=0, le=64, allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Activation = Annotated[str, AfterValidator(_known_activation)]
Kind = Literal["mbconv", "conv"]
Several = Annotated[list[Value], Field(min_length=1), AfterValidator(_each_once)]
Depth = Annotated[tuple[Channels, Channels], BeforeValidator(_as_range), AfterValidator(_ascending)]


class CandidateSection(Section):
    """`[candidates]`: what a block may be, every combination (`search.spaces.inverted`)."""

    kinds: Several[Kind] = Field(["mbconv"])
    kernels: Several[Kernel] = Field([3, 5, 7])
    expansions: Several[Expansion] = Field([3, 6])
    squeeze_excite: Several[Ratio] = Field([0])
    activations: Several[Activation] = Field(["relu6"])


class StageSection(CandidateSection):
    """`[[stages]]`: searchable blocks of as many channels, the first one with the stride.

    `depth`: how many blocks, or [least, most]. What a stage says of its candidates stands before
    what `[candidates]` says.
    """

    channels: Channels
    depth: Depth
    stride: Stride = 1

    def stage(self, width: float) -> Stage:
        """The stage at a width multiplier."""
        least, most = self.depth
        candidates = Candidates(
            self.kinds, self.kernels, self.expansions, self.squeeze_excite, self.activations
        )
        return Stage(_scaled(self.channels, width), most, self.stride, least, candidates)


class BlockSection(Section):
    """`[[stem.blocks]]`: an inverted bottleneck that every network has."""

    channels: Channels
    kernel: Kernel = 3
    stride: Stride = 1
    expansion: Expansion = 1
    squeeze_excite: Ratio = 0
    activation: Activation = "relu6"


class StemSection(Section):
    """`[stem]`: a convolution on the image, and what follows it before the first stage."""

    channels: Channels
    kernel: Kernel = 3
    stride: Stride = 2
    activation: Activation = "relu6"
    blocks: list[BlockSection] = Field([])


class HeadSection(Section):
    """`[head]`: a 1x1 convolution to `features` channels, global average pooling, a linear layer
    to `hidden` where that is given, and the classifier. A width multiplier above 1 widens what
    comes last before the classifier; one below leaves it, as MobileNetV2 does."""

    features: Channels
    hidden: Channels | None = None
    activation: Activation = "relu6"


class StagedSpace(Section):
    """A whole file. `resolution` and `classes` are what the user of the space may say otherwise."""

    resolution: Annotated[int, Field(ge=1, le=MOST_RESOLUTION)]
    classes: Annotated[int, Field(ge=1, le=MOST_CLASSES)] = 1000
    candidates: CandidateSection = CandidateSection()
    stem: StemSection
    stages: Annotated[list[StageSection], Field(min_length=1)]
    head: HeadSection

    @model_validator(mode="before")
    @classmethod
    def _stages_inherit(cls, content: Any) -> Any:
        """Give each stage what `[candidates]` says and it does not."""
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
        stages = [section.stage(width) for section in self.stages]
        blocks = searchable_blocks(stages, size, channels, batch)
        size = final_size(stages, size)
        head = _head(self.head, size, stages[-1].channels, width, classes, batch)
        return SearchSpace(name, resolution, classes, stem, tuple(blocks), head)


def read(path: Path) -> StagedSpace:
    """The space that a TOML file describes.

    Raises `UsageError`, one line, that names the file, the key and what is allowed.
    """
    return read_toml(path, StagedSpace)


def _scaled(channels: int, width: float) -> int:
    """As written at width 1, else a multiple of 8."""
    return channels if width == 1 else divisible(channels * width)


def _stem(stem: StemSection, size: int, width: float, batch: int) -> tuple[OpSpec, ...]:
    sizes = (size, size, 3, _scaled(stem.channels, width), stem.kernel, stem.stride)
    ops = [OpSpec("conv", *sizes, activation=stem.activation, batch=batch)]
    for block in stem.blocks:
        sizes = (*ops[-1].out_shape, _scaled(block.channels, width), block.kernel, block.stride)
        inside = (block.expansion, block.activation, block.squeeze_excite)
        ops.append(OpSpec("mbconv", *sizes, *inside, batch=batch))
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
