"""The ONNX back end: a graph as an ONNX model again, for the tools that take one."""
