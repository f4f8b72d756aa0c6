"""The machine the agent runs on: CPUs, GPU, temperature and clock."""

from __future__ import annotations

import contextlib
import glob
import os
import platform
import re
from collections.abc import Sequence
from typing import Any

from devices.agent.timing import UnableError


def pin(cpus: Sequence[int] | None, threads: int) -> list[int]:
    """Pin the process to `cpus`, by default to the last `threads` allowed ones (the first ones
    serve most interrupts). Returns the CPUs in use, [] if the system has no affinity."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    allowed = sorted(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError, OverflowError):
        os.sched_setaffinity(0, cpus or allowed[-threads:])
    pinned = sorted(os.sched_getaffinity(0))
    if cpus and pinned != sorted(set(cpus)):
        raise UnableError(
            f"affinity: the card asks for the CPUs {', '.join(map(str, cpus))}; "
            f"there are {', '.join(map(str, allowed))}"
        )
    return pinned


def read(path: str) -> str:
    """The text of a file, "" if it cannot be read."""
    try:
        with open(path, errors="replace") as file:
            return file.read().strip("\0\n ")
    except OSError:
        return ""


def facts() -> dict[str, Any]:
    """What the host names the hardware by."""
    return {
        "cpu_info": read("/proc/cpuinfo").split("\n\n")[0],
        "cpus": os.cpu_count() or 1,
        "machine": platform.processor() or platform.machine(),
        "board": read("/proc/device-tree/model"),
        "system": f"{platform.system()} {platform.release()}",
    }


def cpu_state(cpus: Sequence[int]) -> dict[str, float | None]:
    """The highest temperature and the lowest clock of `cpus`; None if they cannot be read."""
    zones = [read(path) for path in glob.glob("/sys/class/thermal/thermal_zone*/temp")]
    clocks = [read(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq") for cpu in cpus]
    return {
        "temperature_c": max([int(t) / 1000 for t in zones if t.isdigit()], default=None),
        "frequency_mhz": min([int(c) / 1000 for c in clocks if c.isdigit()], default=None),
    }


def nvml_gpu() -> tuple[Any, Any]:
    """NVML's module and the first GPU visible to this process. Raises if there is none."""
    import pynvml

    pynvml.nvmlInit()
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(first)
    return pynvml, pynvml.nvmlDeviceGetHandleByIndex(int(first or 0))


def nvidia_name() -> str:
    """The GPU's name from NVML, or the first one that the driver lists."""
    with contextlib.suppress(Exception):
        pynvml, gpu = nvml_gpu()
        name = pynvml.nvmlDeviceGetName(gpu)
        return name.decode() if isinstance(name, bytes) else name
    texts = map(read, sorted(glob.glob("/proc/driver/nvidia/gpus/*/information")))
    models = [name.strip() for text in texts for name in re.findall(r"(?m)^Model:(.*)", text)]
    return next(iter(models), "NVIDIA GPU")


def nvml_state() -> dict[str, float | None]:
    """The GPU's temperature and clock; None without NVML's Python module."""
    with contextlib.suppress(Exception):
        pynvml, gpu = nvml_gpu()
        return {
            "temperature_c": pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
            "frequency_mhz": pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
        }
    return {"temperature_c": None, "frequency_mhz": None}
