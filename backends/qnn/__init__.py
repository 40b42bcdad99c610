"""The QNN back end: networks for Qualcomm's Hexagon processors, by onnxruntime's QNN plugin."""
