"""An invented machine, for every Python that starts with this folder in PYTHONPATH: a CPU that
nobody knows, one core, and a clock of whole microseconds."""

import builtins
import io
import os
import time
from pathlib import Path

REAL, INVENTED = "/proc/cpuinfo", str(Path(__file__).with_name("cpuinfo"))
_open, _perf_counter_ns = io.open, time.perf_counter_ns


def open_invented(file, *arguments, **options):
    is_real = isinstance(file, str | os.PathLike) and os.fspath(file) == REAL
    return _open(INVENTED if is_real else file, *arguments, **options)


def whole_microseconds():
    return _perf_counter_ns() // 1000 * 1000


builtins.open = io.open = open_invented
time.perf_counter_ns = whole_microseconds
os.cpu_count = lambda: 1
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
