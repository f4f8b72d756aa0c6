"""From an ONNX file to kernels: reading, constant folding, patterns, fusion."""
