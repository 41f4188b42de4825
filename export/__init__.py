"""torch -> ONNX, parity with the original, and the torch-free OnnxModel value."""
