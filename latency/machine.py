"""Description of this machine for a table's header."""

import os
import platform
from pathlib import Path


def hardware() -> str:
    """Processor and number of CPUs, e.g. "AMD EPYC (family 26 model 2), 2 CPUs"."""
    return describe(
        os.cpu_count() or 1,
        board=_read("/proc/device-tree/model").strip("\0\n "),
        cpu_info=_read("/proc/cpuinfo").split("\n\n")[0],
        machine=platform.processor() or platform.machine(),
    )


def describe(cpus: int, board: str = "", cpu_info: str = "", machine: str = "") -> str:
    """Description of hardware from the most specific of a board's model, the first processor's
    paragraph of /proc/cpuinfo, and the machine's architecture.

    >>> describe(4, board="Raspberry Pi 4 Model B Rev 1.4")
    'Raspberry Pi 4 Model B Rev 1.4, 4 CPUs'
    """
    pairs = (line.partition(":") for line in cpu_info.splitlines())
    info = {key.strip(): value.strip() for key, _, value in pairs}
    name = board or info.get("model name") or machine
    if not board and "cpu family" in info:
        name += f" (family {info['cpu family']} model {info.get('model', '?')})"
    return f"{name}, {cpus} CPUs"


def accelerators() -> tuple[str, ...]:
    """Names of this machine's NVIDIA GPUs."""
    paths = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line.partition(":") for path in paths for line in _read(path).splitlines()]
    return tuple(value.strip() for key, _, value in lines if key == "Model")


def system() -> str:
    """Operating system and kernel."""
    return f"{platform.system()} {platform.release()}"


def clock() -> str:
    """Frequency governor, if readable (virtual machines hide it)."""
    governor = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()
    return f"governor {governor}" if governor else "not readable"


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
