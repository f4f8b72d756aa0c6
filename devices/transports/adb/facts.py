"""A phone's hardware, cores, temperature and clock."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from devices.transports.adb.phones import Phone
from latency.errors import ConnectionLostError

_PROPERTIES = (
    "ro.product.manufacturer",
    "ro.product.model",
    "ro.product.device",
    "ro.soc.model",
    "ro.board.platform",
    "ro.build.version.release",
    "ro.build.fingerprint",
    "ro.product.cpu.abi",
)
_CPUS = "/sys/devices/system/cpu"
_READ_FACTS = f"""
for name in {" ".join(_PROPERTIES)}; do echo "$name=$(getprop $name)"; done
for cpu in {_CPUS}/cpu[0-9]*; do
  [ -d "$cpu" ] && echo "${{cpu##*/}}=$(cat "$cpu/cpufreq/cpuinfo_max_freq" 2>/dev/null)"
done
"""
_READ_ZONES = """
for zone in /sys/class/thermal/thermal_zone*; do
  echo "zone $(cat "$zone/type" 2>/dev/null) $(cat "$zone/temp" 2>/dev/null)"
done
dumpsys battery 2>/dev/null | grep temperature:
"""
_RELEVANT = re.compile(r"cpu|soc|tsens|big|little|cluster|kryo|battery|batt\b", re.IGNORECASE)


@dataclass(frozen=True)
class PhoneFacts:
    """`max_khz`: of each core, 0 if it cannot be read."""

    properties: dict[str, str]
    max_khz: dict[int, int]

    @property
    def as_dict(self) -> dict[str, Any]:
        """In the form of the agent's facts."""
        properties = self.properties
        soc = properties["ro.soc.model"] or properties["ro.board.platform"]
        inner = ", ".join(filter(None, (properties["ro.product.device"], soc)))
        names = (properties["ro.product.manufacturer"], properties["ro.product.model"])
        board = " ".join(filter(None, names)) + (f" ({inner})" if inner else "")
        build = properties["ro.build.fingerprint"]
        return {
            "board": board.strip(),
            "cpus": max(1, len(self.max_khz)),
            "system": f"Android {properties['ro.build.version.release']} ({build})",
            "machine": properties["ro.product.cpu.abi"],
        }

    def big_cores(self, threads: int) -> tuple[int, ...]:
        """The fastest cores, cluster by cluster until each thread has one; () if no clock can be
        read."""
        chosen: list[int] = []
        for khz in sorted({khz for khz in self.max_khz.values() if khz}, reverse=True):
            chosen += [cpu for cpu, its in self.max_khz.items() if its == khz]
            if len(chosen) >= threads:
                break
        return tuple(sorted(chosen))


def read_facts(phone: Phone) -> PhoneFacts:
    """Read the facts of a phone."""
    lines = [line.partition("=") for line in phone.shell(_READ_FACTS).output.splitlines()]
    values = {name.strip(): value.strip() for name, _, value in lines}
    if not values.keys() >= set(_PROPERTIES):
        raise ConnectionLostError(f"{phone}: its properties cannot be read")
    cores = {
        int(name[3:]): int(value) if re.fullmatch(r"\d{1,9}", value) else 0
        for name, value in values.items()
        if re.fullmatch(r"cpu\d{1,4}", name)
    }
    properties = {name: values[name] for name in _PROPERTIES}
    return PhoneFacts(properties, dict(sorted(cores.items())))


def read_state(phone: Phone, cpus: Sequence[int]) -> dict[str, float | None]:
    """The highest temperature of processor and battery, and the clock of these cores; None for
    what cannot be read."""
    files = " ".join(f"{_CPUS}/cpu{cpu}/cpufreq/scaling_cur_freq" for cpu in cpus)
    clock = f"for file in {files}; do echo clock $(cat $file 2>/dev/null); done" if cpus else ""
    temperatures, clocks = [], []
    for line in phone.shell(_READ_ZONES + clock).output.splitlines():
        kind, _, rest = line.strip().partition(" ")
        if kind == "clock":
            clocks.append(_number(rest, 1000))
        elif kind == "temperature:":
            temperatures.append(_number(rest, 10))
        elif kind == "zone" and _RELEVANT.search(rest.rpartition(" ")[0]):
            value = _number(rest.rpartition(" ")[2])  # in degrees, tenths or thousandths
            temperatures.append(value / (1 if value < 150 else 10 if value < 5000 else 1000))
    return {
        "temperature_c": max((value for value in temperatures if 0 < value < 150), default=None),
        "frequency_mhz": max(filter(math.isfinite, clocks), default=None),
    }


def _number(text: str, divisor: int = 1) -> float:
    return int(text) / divisor if re.fullmatch(r"\d{1,9}", text.strip()) else math.nan
