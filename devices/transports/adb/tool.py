"""`BenchmarkTool`: TensorFlow Lite's `benchmark_model` binary, as a file on this machine."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from latency.errors import DeviceError

WHERE_FROM = (
    "download the native benchmark binary for the phone's processor (android_aarch64) from "
    "TensorFlow Lite's page 'Performance measurement', or build "
    "tensorflow/lite/tools/benchmark:benchmark_model, and name it in the card: "
    "benchmark_model in section [adb]"
)

_ABIS = {
    3: "x86",
    40: "armeabi-v7a",
    62: "x86_64",
    183: "arm64-v8a",
    243: "riscv64",
}
"""Android's name of a processor, by the machine number in an ELF header."""


@dataclass(frozen=True)
class BenchmarkTool:
    """The binary. `abi`: the processor that it is for, None where it is no ELF file: a script
    runs on every phone that has its interpreter, so it is not checked."""

    content: bytes
    abi: str | None

    @property
    def digest(self) -> str:
        """Pins the build."""
        return sha256(self.content).hexdigest()[:12]

    def check(self, abis: tuple[str, ...], where: str) -> None:
        """Raise `DeviceError` unless a phone that runs these ABIs runs the binary."""
        if self.abi is not None and abis and self.abi not in abis:
            raise DeviceError(
                f"{where}: its processor runs {', '.join(abis)}, and benchmark_model is for "
                f"{self.abi}: {WHERE_FROM}"
            )


def read_tool(path: Path | None) -> BenchmarkTool:
    """The binary at this path. Raises `DeviceError` that says where one comes from."""
    if path is None:
        raise DeviceError(f"the card names no benchmark_model: {WHERE_FROM}")
    path = path.expanduser()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DeviceError(f"{path}: {error.strerror or error}; {WHERE_FROM}") from None
    if not content:
        raise DeviceError(f"{path} is empty; {WHERE_FROM}")
    return BenchmarkTool(content, _abi(content))


def _abi(content: bytes) -> str | None:
    if len(content) < 20 or not content.startswith(b"\x7fELF"):
        return None
    machine = int.from_bytes(content[18:20], "big" if content[5] == 2 else "little")
    return _ABIS.get(machine, f"machine number {machine}")
