"""The machine that the agent runs on: its CPUs, its GPU, and their state."""

from __future__ import annotations

import contextlib
import glob
import os
import platform
from collections.abc import Sequence
from typing import Any

from devices.agent.timing import UnableError


def pin(cpus: Sequence[int] | None, threads: int) -> list[int]:
    """Run on these CPUs only, or where none are named on the last `threads` free ones (the first
    serve most interrupts); returns the CPUs in force, [] where the system cannot pin."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    free = sorted(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError, OverflowError):
        os.sched_setaffinity(0, cpus or free[-threads:])
    pinned = sorted(os.sched_getaffinity(0))
    if cpus and pinned != sorted(set(cpus)):
        raise UnableError(
            f"affinity: the card asks for the CPUs {', '.join(map(str, cpus))}; "
            f"there are {', '.join(map(str, free))}"
        )
    return pinned


def read(path: str) -> str:
    """A file's text, "" where it cannot be read."""
    try:
        with open(path, errors="replace") as file:
            return file.read().strip("\0\n ")
    except OSError:
        return ""


def facts() -> dict[str, Any]:
    """What the host identifies the hardware by."""
    return {
        "cpu_info": read("/proc/cpuinfo").split("\n\n")[0],
        "cpus": os.cpu_count() or 1,
        "machine": platform.processor() or platform.machine(),
        "board": read("/proc/device-tree/model"),
        "system": f"{platform.system()} {platform.release()}",
    }


def cpu_state(cpus: Sequence[int]) -> dict[str, float | None]:
    """The hottest temperature, and the lowest clock of `cpus`; None where they cannot be read."""
    zones = [read(path) for path in glob.glob("/sys/class/thermal/thermal_zone*/temp")]
    clocks = [read(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq") for cpu in cpus]
    return {
        "temperature_c": max([int(t) / 1000 for t in zones if t.isdigit()], default=None),
        "frequency_mhz": min([int(c) / 1000 for c in clocks if c.isdigit()], default=None),
    }


def nvml_gpu() -> tuple[Any, Any]:
    """NVML's module, and the GPU that this process sees first. Raises where there is none."""
    import pynvml

    pynvml.nvmlInit()
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(first)
    return pynvml, pynvml.nvmlDeviceGetHandleByIndex(int(first or 0))


def nvidia_name() -> str:
    """The GPU's name by NVML, else that of the first one by its driver."""
    try:
        pynvml, gpu = nvml_gpu()
        name = pynvml.nvmlDeviceGetName(gpu)
        return name.decode() if isinstance(name, bytes) else name
    except Exception:
        pass
    for path in sorted(glob.glob("/proc/driver/nvidia/gpus/*/information")):
        for line in read(path).splitlines():
            key, _, value = line.partition(":")
            if key == "Model":
                return value.strip()
    return "NVIDIA GPU"


def nvml_state() -> dict[str, float | None]:
    """The GPU's temperature and clock, where NVML's Python module is installed."""
    try:
        pynvml, gpu = nvml_gpu()
        return {
            "temperature_c": pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
            "frequency_mhz": pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
        }
    except Exception:
        return {"temperature_c": None, "frequency_mhz": None}
