"""One converter a few lines long for each ONNX operator, one family a file; importing this package registers all."""

from edgecc.frontend.converters import (
    constants,
    control,
    convolution,
    einsum,
    elementwise,
    indexing,
    matrix,
    microsoft,
    movement,
    normalization,
    padding,
    pooling,
    quantization,
    random,
    recurrent,
    reduction,
    refused,
    resize,
    sampling,
    signal,
    training,
)

__all__ = ["constants", "control", "convolution", "einsum", "elementwise", "indexing", "matrix", "microsoft", "movement",
           "normalization", "padding", "pooling", "quantization", "random", "recurrent", "reduction", "refused",
           "resize", "sampling", "signal", "training"]
