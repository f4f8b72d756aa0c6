"""The agent: goes to a device, loads models, times runs, and nothing else.

The folder is sent as one zip application (`devices.agent_archive`). It needs the standard library,
numpy and the device's own runtime. It runs on Python 3.9 or newer, and on 3.11 or newer for
PyTorch, whose layers are those of `latency.torch_layers`.

It reads one JSON object per line from standard input and answers each with one line on standard
output, with the request's `id` in it:

    {"do": "hello", "runtime": "onnxruntime", "threads": 1, ...}
        ->  {"runtime": "onnxruntime 1.32.0", "build": "...", "cpus": [1], "traces": true,
             "facts": {...}}
    {"do": "load", "path": "/tmp/x.onnx"}                  ->  {"handle": 0}
    {"do": "run", "handle": 0, "warmup": 2, "runs": 10}    ->  {"ns": [201340, ...]}
    {"do": "trace", "path": "/tmp/x.onnx", "warmup": 2, "runs": 10}
        ->  {"ns": {"0.conv.relu6_nchwc": 70210.5, "1.depthwise.relu6_nchwc": ..., ...}}
    {"do": "state"}                         ->  {"temperature_c": 41.5, "frequency_mhz": 2400.0}

`trace` loads the model once more and measures each of its nodes while the whole model runs, with
the runtime's own profiler, in order of execution; a runtime without a profiler answers "traces":
false. A request that fails is answered with {"error": "..."}. The agent ends when standard input
ends, so that it never outlives its host.
"""
