"""From an ONNX file to a verified Graph IR."""
