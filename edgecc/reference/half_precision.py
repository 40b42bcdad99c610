"""What rounding to a half-precision type does to the outputs of a network, by measurement.

A fixed tolerance says little here. Values that are stored in f16 are off by up to a roundoff (2^-11), which fifty layers add up to more or
less, as their weights will; sums in f16 are off by more, the longer they are. So the converted network is executed by the reference, which
rounds every stored value as the compiled one does, with errors of random sign added to the sums: a sum of n terms that is rounded at every
step is off by about sqrt(n) / 5 roundoffs of its magnitude (the n partial sums grow like sqrt(k), and each is rounded by 0.29 roundoffs of
itself, root mean square). Sums are cut into blocks of `BLOCK` terms (edgecc/kernels/half_sums.py). Winograd's algorithm in f16, which a
convolution of 3 x 3 may be computed by, is off by `WINOGRAD` instead (edgecc/kernels/winograd.py).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from edgecc.ir.dims import upper_bound
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.types import Array, DType
from edgecc.ops.convolution import Conv, ConvTranspose
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.rules import sum_type
from edgecc.reference.executor import Perturbation, execute

Contraction = Conv | ConvTranspose | MatMul

BLOCK = 576
STEP_ERROR = 0.2
"""What each of n roundings adds to the error of a sum, in roundoffs of its magnitude over sqrt(n)."""

WINOGRAD = 0.0065
HALF_TYPES = (DType.F16, DType.BF16)


class HalfPrecision:
    """A converted network that can be executed with the errors of its sums.

    Attributes:
        terms: of each sum in f16 the number of its terms.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph.copy()
        self.terms: dict[Node, int] = {}
        for node in list(self._graph.nodes):
            if isinstance(node.op, Contraction) and _sums_in_f16(node, node.op):
                self._single_out(node, node.op)

    def _single_out(self, node: Node, op: Contraction) -> None:
        """Makes the sum of a contraction a value of its own, before its epilogue."""
        count = terms_of(node, op)
        if count < 2:
            return
        if op.epilogue is None:
            self.terms[node] = count
            return
        graph = self._graph
        plain = graph.add(dataclasses.replace(op, epilogue=None), *node.inputs[:3], before=node, loc=node.loc, name=node.output.name)
        after = graph.add(Elementwise(op.epilogue), plain, *node.inputs[3:], before=node, loc=node.loc, name=node.output.name)
        graph.replace_all_uses(node.output, after)
        graph.erase(node)
        if plain.producer is not None:
            self.terms[plain.producer] = count

    def run(self, inputs: Mapping[str, Array], seed: int, longest: int | None = None) -> dict[str, Array]:
        """The outputs, with errors drawn by `seed`; sums of more than `longest` terms have none, as if they were in f32."""
        generator = np.random.default_rng(seed)
        magnitudes = {value: _rms(np.asarray(inputs[name]))
                      for name, value in zip(self._graph.input_names, self._graph.inputs, strict=True) if value.type.dtype.is_float}

        def observed(node: Node, results: tuple[Array, ...]) -> None:
            magnitudes.update((v, _rms(r)) for v, r in zip(node.outputs, results, strict=True) if v.type.dtype.is_float)

        def replaced(node: Node, value: Value, array: Array) -> Array:
            count = self.terms.get(node)
            if count is None or (longest is not None and count > longest):
                return array
            scale = np.maximum(_magnitude(node, magnitudes, count), _rms(array))
            with np.errstate(all="ignore"):
                return np.asarray(array + _relative_error(node, count) * scale * generator.standard_normal(array.shape)).astype(array.dtype)

        return execute(self._graph, inputs, observe=observed, perturb=_nudged(generator), replace=replaced)


def terms_of(node: Node, op: Contraction) -> int:
    """How many products each sum of a contraction has, at most."""
    w = [upper_bound(size) for size in node.operand(1).type.shape]
    match op:
        case MatMul():
            return w[-1] if op.transpose_b else w[-2]
        case Conv():
            return math.prod(w[1:])
    return w[0] // op.group * math.prod(-(-size // stride) for size, stride in zip(w[2:], op.strides, strict=True))


def _sums_in_f16(node: Node, op: Contraction) -> bool:
    dtype = node.operand(0).type.dtype
    return dtype is DType.F16 and sum_type(op.epilogue, dtype) is DType.F16


def _relative_error(node: Node, count: int) -> float:
    direct = DType.F16.unit_roundoff * STEP_ERROR * math.sqrt(min(count, BLOCK))
    op = node.op
    windows = isinstance(op, Conv) and op.group == 1 and op.strides == (1, 1) and node.operand(1).type.shape[2:] == (3, 3)
    return max(direct, WINOGRAD) if windows else direct


def _magnitude(node: Node, magnitudes: Mapping[Value, float], count: int) -> Array:
    """The root mean square of sums of products of random signs, by channel where the weights are constant; broadcasts to the result."""
    x, w = (_magnitude_of(node.operand(index), magnitudes) for index in (0, 1))
    weights = node.operand(1).constant
    if weights is None or not isinstance(node.op, Conv):
        return np.asarray(x * w * math.sqrt(count))
    norms = np.sqrt(np.sum(weights.astype(np.float64) ** 2, axis=tuple(range(1, weights.ndim))))
    return np.asarray(x * norms.reshape(-1, *[1] * (weights.ndim - 2)))


def _magnitude_of(value: Value, magnitudes: Mapping[Value, float]) -> float:
    return _rms(value.constant) if value.constant is not None else magnitudes.get(value, 0.0)


def _rms(array: Array) -> float:
    finite = np.asarray(array, np.float64)
    finite = finite[np.isfinite(finite)]
    return float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0


def _nudged(generator: np.random.Generator) -> Perturbation:
    """Moves values of a half-precision type by a third of a roundoff before they are rounded: whether the last bit is one or the other is chance."""

    def nudge(array: Array) -> Array:
        if array.dtype not in {dtype.numpy for dtype in HALF_TYPES}:
            return array
        unit = DType.from_numpy(array.dtype).unit_roundoff
        with np.errstate(all="ignore"):
            return np.asarray(array * (1.0 + unit * generator.uniform(-1.0, 1.0, array.shape))).astype(array.dtype)

    return nudge
