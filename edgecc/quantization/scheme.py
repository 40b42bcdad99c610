"""What a quantized model shall look like, and the parameters of one value: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array

METHODS = ("minmax", "percentile", "entropy", "mse")
"""How a range is chosen from what was observed (edgecc/quantization/ranges.py)."""


@dataclass(frozen=True)
class IntegerType:
    """An integer type that values are quantized to, with the range of its values."""

    name: str
    lowest: int
    highest: int
    code: int

    @property
    def levels(self) -> int:
        """Number of values."""
        return self.highest - self.lowest + 1

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy type of arrays of them."""
        return np.dtype(self.name)


TYPES = {t.name: t for t in (
    IntegerType("int8", -128, 127, onnx.TensorProto.INT8), IntegerType("uint8", 0, 255, onnx.TensorProto.UINT8),
    IntegerType("int16", -32768, 32767, onnx.TensorProto.INT16), IntegerType("uint16", 0, 65535, onnx.TensorProto.UINT16))}
"""The types of activations, by name."""

WEIGHT_LIMIT = 127
"""Weights lie in -127..127, so that they have no lone extreme and negate; the TFLite specification asks for it."""


@dataclass(frozen=True)
class Scheme:
    """How to quantize.

    Attributes:
        activations: a name of `TYPES`.
        symmetric: whether zero points of signed activations are 0.
        per_channel: a scale for each output channel of weights, else one for each tensor.
        method: one of `METHODS`. percentile: for that method, the share of values within the range, in percent.
        equalize, correct_bias, round_adaptively: see the modules of these names.
        exclude: names of nodes of the model that stay in float.
        wide: names of nodes whose results are int16, and of inputs that are.
        apart: names of concatenations whose operands have scales of their own (edgecc/quantization/uneven.py).
    """

    activations: str = "int8"
    symmetric: bool = False
    per_channel: bool = True
    method: str = "mse"
    percentile: float = 99.999
    equalize: bool = False
    correct_bias: bool = True
    round_adaptively: bool = False
    exclude: frozenset[str] = field(default_factory=frozenset)
    wide: frozenset[str] = field(default_factory=frozenset)
    apart: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        if self.activations not in TYPES:
            raise EdgeccError("E001", f"activations {self.activations!r} are not one of {', '.join(TYPES)}")
        if self.method not in METHODS:
            raise EdgeccError("E001", f"method {self.method!r} is not one of {', '.join(METHODS)}")
        if not 50.0 < self.percentile <= 100.0:
            raise EdgeccError("E001", f"percentile {self.percentile} is not above 50 and at most 100")


@dataclass(frozen=True)
class Parameters:
    """real = scale * (integer - zero_point), integer in lowest..highest of `type`."""

    scale: float
    zero_point: int
    type: IntegerType

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest number that can be held."""
        return self.scale * (self.type.lowest - self.zero_point), self.scale * (self.type.highest - self.zero_point)

    def round_trip(self, values: Array) -> Array:
        """The values quantized and dequantized again, in float64."""
        wide = np.asarray(values, np.float64)
        steps = np.clip(np.rint(wide / self.scale) + self.zero_point, self.type.lowest, self.type.highest)
        return np.asarray((steps - self.zero_point) * self.scale)


def parameters_of(lowest: float, highest: float, integer: IntegerType, *, symmetric: bool = False) -> Parameters:
    """Parameters whose range holds lowest..highest and 0, which is held exactly.

    The scale is a float32, as QuantizeLinear wants it. A range of nothing but 0 gets the scale 1.
    """
    low, high = min(float(lowest), 0.0), max(float(highest), 0.0)
    if low == high:
        return Parameters(1.0, 0 if symmetric or integer.lowest < 0 else integer.lowest, integer)
    if symmetric and integer.lowest < 0:
        return Parameters(_float32(max(-low, high) / integer.highest), 0, integer)
    scale = _float32((high - low) / (integer.levels - 1))
    zero_point = int(np.clip(np.rint(integer.lowest - low / scale), integer.lowest, integer.highest))
    return Parameters(scale, zero_point, integer)


def _float32(value: float) -> float:
    """The nearest float32 that is a normal number."""
    return float(max(np.float32(value), np.finfo(np.float32).tiny))
