"""torch -> ONNX, parity with the original, and the torch-free OnnxModel value."""

from export.privacy import report_to_nobody

report_to_nobody()
