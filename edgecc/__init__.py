"""edgecc compiles ONNX models to self-contained C for edge devices."""
