"""Weight-only quantization: matrix products keep float operands and get weights of 4 or 8 bits, in a form that other tools read.

The result has MatMulNBits (domain com.microsoft), or DequantizeLinear with block_size (ONNX 21) in front of MatMul.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgecc.errors import EdgeccError, printable
from edgecc.ir.names import UniqueNames
from edgecc.ir.types import Array
from edgecc.quantization.awq import awq_scales
from edgecc.quantization.blocks import BlockForm, BlockWeights, output_error, round_to_nearest
from edgecc.quantization.gptq import gptq
from edgecc.quantization.gram import Gram, grams, passes_over
from edgecc.quantization.network import Network, attribute
from edgecc.quantization.observe import Progress, Samples
from edgecc.quantization.report import decibels

WEIGHT_METHODS = ("rtn", "gptq", "awq")
"""Round to nearest, which needs no data; edgecc/quantization/gptq.py; edgecc/quantization/awq.py."""

FORMATS = ("matmulnbits", "qdq")
BLOCKS = (16, 32, 64, 128, 256)
DOMAIN = "com.microsoft"
DEQUANTIZE_BLOCKS = 21
"""The opset from which on DequantizeLinear has block_size."""


@dataclass(frozen=True)
class WeightScheme:
    """How to quantize weights.

    Attributes:
        form: bits, block and zero points. method: one of `WEIGHT_METHODS`. output: one of `FORMATS`.
        quantize_operands: whether products may quantize their operand to 8 bits as they run (accuracy_level 4 of MatMulNBits).
        exclude: names of nodes that stay as they are.
    """

    form: BlockForm = field(default_factory=BlockForm)
    method: str = "rtn"
    output: str = "matmulnbits"
    quantize_operands: bool = False
    exclude: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for what, value, known in (("method", self.method, WEIGHT_METHODS), ("output format", self.output, FORMATS)):
            if value not in known:
                raise EdgeccError("E001", f"{what} {printable(value)!r} is not one of {', '.join(known)}")
        if self.form.block not in BLOCKS:
            raise EdgeccError("E001", f"block size {self.form.block} is not one of {', '.join(map(str, BLOCKS))}")
        if self.quantize_operands and self.output != "matmulnbits":
            raise EdgeccError("E001", "only MatMulNBits can say that operands may be quantized", hint="use the output format matmulnbits")


@dataclass(frozen=True)
class WeightReport:
    """One product: its node, [terms, channels], and decibels of signal to noise that its rounded weights leave of the product.

    `ratio` is None where there was no data to tell, `nearest` that of rounding to nearest.
    """

    layer: str
    terms: int
    channels: int
    ratio: float | None
    nearest: float | None


@dataclass(frozen=True)
class WeightQuantized:
    """The model, and a line for each product."""

    model: onnx.ModelProto
    layers: tuple[WeightReport, ...]


@dataclass(frozen=True)
class _Product:
    """A product with constant weights [channels, terms]; `bias` is the operand that is added, or ""."""

    node: onnx.NodeProto
    operand: str
    weights: Array
    bias: str


def quantize_weights(network: Network, scheme: WeightScheme, data: Samples | None, progress: Progress) -> WeightQuantized:
    """Quantizes the weights of every matrix product with constant f32 weights of at least a block.

    Args:
        network: prepared (prepare.py). data: what operands look like; gptq and awq need it.
    Raises: EdgeccError E001 where data is missing, names are wrong, or the model has no such product.
    """
    unknown = sorted(scheme.exclude - {node.name for node in network.nodes})
    if unknown:
        raise EdgeccError("E001", f"the model has no node {printable(unknown[0])!r}")
    if data is None and scheme.method != "rtn":
        raise EdgeccError("E001", f"method {scheme.method} needs data", hint="give --calibration, or use rtn")
    if scheme.output == "qdq" and not any(o.domain in ("", "ai.onnx") and o.version >= DEQUANTIZE_BLOCKS for o in network.model.opset_import):
        raise EdgeccError("E001", f"DequantizeLinear has blocks from opset {DEQUANTIZE_BLOCKS} on", hint=f"use --opset {DEQUANTIZE_BLOCKS}")
    products = [p for p in _products(network) if p.node.name not in scheme.exclude and p.weights.shape[1] >= scheme.form.block]
    if not products:
        raise EdgeccError("E001", f"the model has no matrix product with constant weights of at least {scheme.form.block} terms")
    writer = _Writer(network, scheme)
    by_operand: dict[str, list[_Product]] = {}
    for product in products:
        by_operand.setdefault(product.operand, []).append(product)
    sizes = {name: own[0].weights.shape[1] for name, own in by_operand.items()}
    reports: dict[str, WeightReport] = {}
    for names in passes_over(sizes):
        seen = {} if data is None else grams(network, data, names, progress)
        advance = progress("rounding weights", len(names))
        for name in names:
            for product, rounded, factors in _rounded(by_operand[name], scheme, seen.get(name)):
                reports[product.node.name] = _report(product, rounded, factors, scheme.form, seen.get(name))
                writer.put(product, rounded, factors)
            advance()
    return WeightQuantized(writer.model(), tuple(reports[p.node.name] for p in products))


def _rounded(products: Sequence[_Product], scheme: WeightScheme, gram: Gram | None) -> Iterable[tuple[_Product, BlockWeights, Array | None]]:
    """The weights of products with one operand, and the factors by which they were scaled, or None."""
    factors: Array | None = None
    if scheme.method == "awq" and gram is not None:
        factors = awq_scales([p.weights for p in products], scheme.form, gram.matrix, gram.magnitude).astype(np.float32).astype(np.float64)
        factors = None if np.all(factors == 1.0) else factors
    for product in products:
        if scheme.method == "gptq" and gram is not None:
            yield product, gptq(product.weights, scheme.form, gram.matrix), None
        else:
            yield product, round_to_nearest(product.weights if factors is None else product.weights * factors, scheme.form), factors


def _report(product: _Product, rounded: BlockWeights, factors: Array | None, form: BlockForm, gram: Gram | None) -> WeightReport:
    channels, terms = product.weights.shape
    if gram is None:
        return WeightReport(product.node.name, terms, channels, None, None)
    real = rounded.real if factors is None else rounded.real / factors
    own, nearest = (decibels(1.0, output_error(product.weights, w, gram.matrix)) for w in (real, round_to_nearest(product.weights, form).real))
    return WeightReport(product.node.name, terms, channels, own, nearest)


def _products(network: Network) -> Iterable[_Product]:
    """MatMul and plain Gemm nodes with weights of rank 2."""
    for node in network.nodes:
        if node.op_type not in ("MatMul", "Gemm") or not network.is_float(node.output[0]):
            continue
        weights = network.constants.get(node.input[1])
        if weights is None or weights.ndim != 2 or node.input[0] in network.constants:
            continue
        if node.op_type == "Gemm" and (attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0):
            continue
        turned = node.op_type == "MatMul" or not attribute(node, "transB", 0)
        bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 else ""
        yield _Product(node, node.input[0], weights.T if turned else weights, bias)


class _Writer:
    """The model with other products."""

    def __init__(self, network: Network, scheme: WeightScheme) -> None:
        self.network, self.scheme = network, scheme
        self.names = UniqueNames((*network.types, *network.inputs, *network.outputs))
        self.replaced: dict[str, list[onnx.NodeProto]] = {}
        self.initializers: list[onnx.TensorProto] = []
        self.scaled: dict[str, str] = {}

    def put(self, product: _Product, rounded: BlockWeights, factors: Array | None) -> None:
        """Puts a product with these weights in the place of a node."""
        node, nodes = product.node, []
        operand = product.operand
        if factors is not None:
            if operand not in self.scaled:
                self.scaled[operand] = self.names.fresh(f"{operand}_scaled")
                inverse = self._store(f"{operand}_factors", (1.0 / factors).astype(np.float32))
                nodes.append(helper.make_node("Mul", [operand, inverse], [self.scaled[operand]], name=self.names.fresh(f"{node.name}_factors")))
            operand = self.scaled[operand]
        result = self.names.fresh(f"{node.output[0]}_product") if product.bias else node.output[0]
        nodes += self._product(node, operand, rounded, result)
        if product.bias:
            nodes.append(helper.make_node("Add", [result, product.bias], [node.output[0]], name=self.names.fresh(f"{node.name}_bias")))
        self.replaced[node.name] = nodes

    def _product(self, node: onnx.NodeProto, operand: str, w: BlockWeights, result: str) -> list[onnx.NodeProto]:
        form, base = self.scheme.form, node.input[1]
        channels, terms = w.codes.shape
        if self.scheme.output == "qdq":
            kind = {(4, False): TensorProto.UINT4, (4, True): TensorProto.INT4, (8, False): TensorProto.UINT8, (8, True): TensorProto.INT8}[form.bits, form.symmetric]
            moved = form.middle if form.symmetric else 0
            operands = [self._tensor(f"{base}_codes", kind, w.codes.T.astype(np.int64) - moved), self._store(f"{base}_scales", w.scales.T)]
            if not form.symmetric:
                operands.append(self._tensor(f"{base}_zeros", kind, w.zeros.T.astype(np.int64)))
            real = self.names.fresh(f"{base}_dequantized")
            return [helper.make_node("DequantizeLinear", operands, [real], name=self.names.fresh(f"{node.name}_weights"), axis=0, block_size=form.block),
                    helper.make_node("MatMul", [operand, real], [result], name=node.name)]
        blocks = w.scales.shape[1]
        padded = np.zeros((channels, blocks * form.block), np.uint8)
        padded[:, :terms] = w.codes
        operands = [self._store(f"{base}_codes", packed(padded, form.bits).reshape(channels, blocks, -1)), self._store(f"{base}_scales", w.scales.reshape(-1))]
        if not form.symmetric:
            operands.append(self._store(f"{base}_zeros", packed(w.zeros, form.bits).reshape(-1)))
        more: dict[str, Any] = {"accuracy_level": 4} if self.scheme.quantize_operands else {}
        return [helper.make_node("MatMulNBits", [operand, *operands], [result], name=node.name, domain=DOMAIN,
                                 K=terms, N=channels, bits=form.bits, block_size=form.block, **more)]

    def model(self) -> onnx.ModelProto:
        """The finished model; weights that nobody reads any more are left out."""
        nodes = [new for node in self.network.nodes for new in self.replaced.get(node.name, [node])]
        used = {name for node in nodes for name in node.input} | set(self.network.outputs)
        model = onnx.ModelProto()
        model.CopyFrom(self.network.model)
        kept = [tensor for tensor in self.network.model.graph.initializer if tensor.name in used]
        del model.graph.node[:], model.graph.initializer[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend([*kept, *self.initializers])
        if self.scheme.output == "matmulnbits" and not any(o.domain == DOMAIN for o in model.opset_import):
            model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
        return model

    def _tensor(self, hint: str, kind: int, array: Array) -> str:
        name = self.names.fresh(hint)
        self.initializers.append(helper.make_tensor(name, kind, array.shape, np.ascontiguousarray(array).reshape(-1)))
        return name

    def _store(self, hint: str, array: Array) -> str:
        name = self.names.fresh(hint)
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name


def packed(codes: Array, bits: int) -> Array:
    """Codes [rows, n] as bytes [rows, ...]; of 4 bits, the first of two in the low half, each row in whole bytes."""
    if bits == 8:
        return np.asarray(codes, np.uint8)
    even = np.zeros((codes.shape[0], codes.shape[1] + codes.shape[1] % 2), np.uint8)
    even[:, :codes.shape[1]] = codes
    return np.asarray(even[:, 0::2] | (even[:, 1::2] << 4), np.uint8)
