"""Model files written from operators: ONNX and TensorFlow Lite."""
