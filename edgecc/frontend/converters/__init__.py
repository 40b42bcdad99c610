"""One converter a few lines long for each ONNX operator, one family a file; importing this package registers all."""

from edgecc.frontend.converters import (
    constants,
    convolution,
    einsum,
    elementwise,
    indexing,
    loops,
    matrix,
    microsoft,
    microsoft_attention,
    microsoft_layout,
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
    selection,
    sequences,
    signal,
    training,
)

__all__ = ["constants", "convolution", "einsum", "elementwise", "indexing", "loops", "matrix", "microsoft", "microsoft_attention", "microsoft_layout", "movement",
           "normalization", "padding", "pooling", "quantization", "random", "recurrent", "reduction", "refused",
           "resize", "sampling", "selection", "sequences", "signal", "training"]
