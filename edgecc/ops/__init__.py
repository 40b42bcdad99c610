"""The core operators, one family a file; importing this package registers all of them."""

from edgecc.ops import (
    block_quantized,
    control,
    convolution,
    elementwise,
    indexing,
    matrix,
    movement,
    packing,
    recurrent,
    reduction,
    resize,
    sampling,
    selection,
    sizes,
    strings,
    trees,
    windows,
)

__all__ = [
    "block_quantized", "control", "convolution", "elementwise", "indexing", "matrix", "movement", "packing", "recurrent",
    "reduction", "resize", "sampling", "selection", "sizes", "strings", "trees", "windows",
]
