"""The TFLite back end: a graph as a .tflite file, in floats or in the integers that its quantization states."""
