#!/usr/bin/env python3
"""Stands in for TensorFlow Lite's `benchmark_model`: takes its flags, runs the model with LiteRT
on this machine, and prints as the tool does. Its times are this machine's, never a phone's.
"""

import os
import sys
import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from devices.agent.lite_rt import LiteRt

INITIALISATION = """
============================== Run Order ==============================
\t[node type]\t[first]\t[avg ms]\t[%]\t[cdf%]\t[mem KB]\t[times called]\t[Name]
\tAllocateTensors\t0.1\t0.1\t100.000%\t100.000%\t0.000\t1\tAllocateTensors/0
"""
DEFAULTS = {
    "graph": "",
    "num_threads": "-1",
    "num_runs": "50",
    "min_secs": "1",
    "warmup_runs": "1",
    "warmup_min_secs": "0.5",
    "max_secs": "150",
    "use_xnnpack": "false",
    "enable_op_profiling": "false",
}


def say(text):
    print("INFO: " + text, flush=True)


def flags(arguments):
    """Names to values; what the tool does not know, it refuses."""
    given = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
    if unknown := given.keys() - DEFAULTS.keys():
        sys.exit(f"Unconsumed cmdline flags: {' '.join(sorted(unknown))}")
    return DEFAULTS | given


def resident_kib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def time_runs(execute, runs, seconds, most_seconds):
    """Run it so often, and for so long; the times in us."""
    say(
        f"Running benchmark for at least {runs} iterations and at least {seconds:g} seconds but "
        f"terminate if exceeding {most_seconds:g} seconds."
    )
    times, start = [], time.perf_counter()
    while len(times) < runs or time.perf_counter() - start < seconds:
        before = time.perf_counter_ns()
        execute()
        times.append((time.perf_counter_ns() - before) // 1000)
        if time.perf_counter() - start > most_seconds:
            break
    say(statistics(times) + "\n")
    return times


def statistics(times):
    low, middle, high = (
        sorted(times)[min(len(times) - 1, int(q * len(times)))] for q in (0.05, 0.5, 0.95)
    )
    percentiles = f"p5={low} median={middle} p95={high}"
    if min(times) == max(times):
        same = "(all same)" if len(times) > 1 else ""
        return f"count={len(times)} curr={times[-1]}{same} {percentiles}"
    return (
        f"count={len(times)} first={times[0]} curr={times[-1]} min={min(times)} max={max(times)} "
        f"avg={np.mean(times):.6g} std={int(np.std(times))} {percentiles}"
    )


def print_profile(path, threads, runs):
    """What LiteRT's profiler prints of a model, under the tool's own headings."""
    printed = LiteRt(threads).profiler.profile(path, threads, 1, runs)
    say("Profiling Info for Benchmark Initialization:")
    print(INITIALISATION)
    say("Operator-wise Profiling Info for Regular Benchmark Runs:")
    print(printed)


def main():
    given = flags(sys.argv[1:])
    say("STARTING!")
    say(f"Graph: [{given['graph']}]")
    before_kib, start = resident_kib(), time.perf_counter_ns()
    try:
        interpreter = Interpreter(given["graph"], num_threads=max(1, int(given["num_threads"])))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        print(f"ERROR: Failed to load model {given['graph']}: {error}", file=sys.stderr)
        sys.exit("ERROR: Benchmarking failed.")
    say(f"Loaded model {given['graph']}")
    for tensor in interpreter.get_input_details():
        interpreter.set_tensor(tensor["index"], np.ones(tensor["shape"], tensor["dtype"]))
    init_us, init_kib = (time.perf_counter_ns() - start) // 1000, resident_kib() - before_kib
    say(f"Initialized session in {init_us / 1000:g}ms.")
    most = float(given["max_secs"])
    warm = time_runs(
        interpreter.invoke, int(given["warmup_runs"]), float(given["warmup_min_secs"]), most
    )
    runs = int(given["num_runs"])
    timed = time_runs(interpreter.invoke, runs, float(given["min_secs"]), most)
    say(
        f"Inference timings in us: Init: {init_us}, First inference: {warm[0]}, "
        f"Warmup (avg): {np.mean(warm):.6g}, Inference (avg): {np.mean(timed):.6g}"
    )
    overall = (resident_kib() - before_kib) / 1024
    say(
        "Memory footprint delta from the start of the tool (MB): "
        f"init={init_kib / 1024:g} overall={overall:g}"
    )
    if given["enable_op_profiling"] == "true":
        print_profile(given["graph"], max(1, int(given["num_threads"])), runs)


if __name__ == "__main__":
    main()
