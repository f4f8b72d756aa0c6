"""What this machine is, in the words that a table's header uses."""

import os
import platform
import re
from pathlib import Path


def hardware() -> str:
    """Processor and number of CPUs, e.g. "AMD EPYC (family 26 model 2), 2 CPUs"."""
    info = _cpu_info()
    name = info.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in info:
        name += f" (family {info['cpu family']} model {info['model']})"
    return f"{name}, {os.cpu_count()} CPUs"


def system() -> str:
    """Operating system and kernel."""
    return f"{platform.system()} {platform.release()}"


def clock() -> str:
    """Frequency governor, or that it cannot be read (virtual machines hide it)."""
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    try:
        return f"governor {governor.read_text().strip()}"
    except OSError:
        return "not readable"


def slug(text: str) -> str:
    """A file name's worth of a description: lower case, words joined by hyphens.

    >>> slug("AMD EPYC (family 26 model 2), 2 CPUs")
    'amd-epyc-family-26-model-2-2-cpus'
    """
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def _cpu_info() -> dict[str, str]:
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
