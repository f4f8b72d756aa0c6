"""`BenchmarkTool`: the `benchmark_model` binary of TensorFlow Lite on this machine."""

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

_ABIS = {3: "x86", 40: "armeabi-v7a", 62: "x86_64", 183: "arm64-v8a", 243: "riscv64"}
"""Machine number in an ELF header to Android's ABI."""


@dataclass(frozen=True)
class BenchmarkTool:
    """The binary. `abi`: the ABI it is built for; None if it is not an ELF file, such as a
    script, which is not checked."""

    content: bytes
    abi: str | None

    @property
    def digest(self) -> str:
        """Identifies the build."""
        return sha256(self.content).hexdigest()[:12]

    def check(self, abis: tuple[str, ...], where: str) -> None:
        """Raise `DeviceError` if the binary is for none of a phone's ABIs."""
        if self.abi is not None and abis and self.abi not in abis:
            raise DeviceError(
                f"{where}: its processor runs {', '.join(abis)}, and benchmark_model is for "
                f"{self.abi}: {WHERE_FROM}"
            )


def read_tool(path: Path | None) -> BenchmarkTool:
    """Read the binary. Raises `DeviceError` that says where to get one."""
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
