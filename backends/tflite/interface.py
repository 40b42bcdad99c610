"""What a manifest says of the inputs and outputs of a TFLite or TOSA file, and their conversion from and to those of the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgecc.backends.tflite.convert import Converted, Port
from edgecc.backends.tflite.recorder import Quantization
from edgecc.ir.types import Array, DType


def report(model: Converted) -> dict[str, Any]:
    """What a manifest says about the file."""
    return {"inputs": {name: _port_table(port) for name, port in model.inputs.items()},
            "outputs": {name: _port_table(port) for name, port in model.outputs.items()}, "operators": dict(model.operators)}


def _port_table(port: Port) -> dict[str, Any]:
    table: dict[str, Any] = {"axes": list(port.order)}
    if port.quantization is not None:
        table |= {"type": "int8", "scale": port.quantization.scale, "zero_point": port.quantization.zero}
    elif port.short:
        table |= {"type": "int32"}
    return table


def _quantization(table: Mapping[str, Any]) -> Quantization:
    return Quantization((table["scale"],), table["zero_point"])


def to_file(array: Array, table: Mapping[str, Any]) -> Array:
    """An input of the network as the file takes it."""
    if "scale" not in table or array.dtype == np.int8:
        return array
    if array.dtype == np.uint8:
        return np.asarray(array.astype(np.int16) - 128, np.int8)
    quantization = _quantization(table)
    steps = np.rint(array.astype(np.float32) / np.float32(quantization.scale)) + quantization.zero
    return np.asarray(np.clip(steps, -128, 127), np.int8)


def from_file(array: Array, table: Mapping[str, Any], dtype: DType) -> Array:
    """An output of the file as the network gives it."""
    if "scale" not in table or dtype is DType.I8:
        return np.asarray(array, dtype.numpy)
    if dtype is DType.U8:
        return (array.astype(np.int16) + 128).astype(np.uint8)
    quantization = _quantization(table)
    numbers = (array.astype(np.int32) - quantization.zero).astype(np.float32) * np.float32(quantization.scale)
    return np.asarray(numbers, dtype.numpy)
