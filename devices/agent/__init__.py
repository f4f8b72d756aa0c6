"""The agent: runs on a device, loads models and times runs.

It is sent as one zip application (`devices.agent_archive`), and needs numpy and the device's
runtime. It runs on Python 3.9 or newer; with PyTorch, whose layers come from
`latency.torch_layers`, on 3.11 or newer.

It reads one JSON object per line from standard input and answers each with one line on standard
output that repeats the request's `id`:

    {"do": "hello", "runtime": "onnxruntime", "threads": 1, ...}     (settings of the card)
        ->  {"runtime": "onnxruntime 1.32.0", "build": "...", "cpus": [1], "traces": true,
             "facts": {...}}
    {"do": "load", "path": "/tmp/x.onnx"}                  ->  {"handle": 0}
    {"do": "run", "handle": 0, "warmup": 2, "runs": 10}    ->  {"ns": [201340, ...]}
    {"do": "trace", "path": "/tmp/x.onnx", "warmup": 2, "runs": 10}
        ->  {"ns": {"0.conv.relu6_nchwc": 70210.5, "1.depthwise.relu6_nchwc": ..., ...}}
    {"do": "state"}                         ->  {"temperature_c": 41.5, "frequency_mhz": 2400.0}

`trace` loads the model again and times each node with the runtime's profiler, in order of
execution; a runtime without a profiler answers "traces": false. A failed request is answered with
{"error": "..."}. The agent exits when standard input closes, so it never outlives the host process.
"""
