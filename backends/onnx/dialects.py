"""Quantized ONNX models as vendors want them: where quantization stands, of which types it is, what biases are.

A model with QuantizeLinear and DequantizeLinear nodes is changed so that it computes the same numbers, bit for bit. What a
dialect cannot say is an error that names every place.

    i8 <-> u8        integers and zero points moved by 128: the same numbers
    every operator   movement and Relu keep to the grid of their operand, so quantizing their results by its parameters changes nothing;
                     quantizing in front of Relu and Clip by what stands behind changes nothing either, since both are monotonic
    float biases     the product that DequantizeLinear computes, stored
    fine softmax     quantizing to 16 bits first may round a number next to a tie the other way: the one exception
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx

from edgecc.backends.onnx.qdq import DEQUANTIZE, QUANTIZE, Parameters, QdqModel
from edgecc.backends.onnx.quantized import FIRST_OPSET, opset_for
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph
from edgecc.ir.types import DType


@dataclass(frozen=True)
class Dialect:
    """What a vendor's tool takes.

    Attributes:
        tool: its name. source: where that is said.
        activations: "int8" or "uint8", what is made of quantized values, those of 16 bits likewise; "" leaves them.
        symmetric: whether zero points of activations must be 0.
        signed_weights: whether weights must be i8 with zero point 0.
        float_biases: whether biases are stored as floats instead of being dequantized.
        joined_groups: whether convolutions in groups of several channels are stated as ones without groups, whose other weights are 0,
            where channels have scales of their own.
        gate_first: whether x * (erf(...) + 1) is stated with x as the second factor, because the tool does not survive the other order.
        one_scale: whether equal scales of all channels must be stated as one.
        every: whether the result of each operator between quantized ones is quantized.
        fine_softmax: whether results of Softmax are quantized to 16 bits before they are to 8, because the tool computes it in numbers
            as short as its result; from opset 21 on, which has u16.
        opset: of the default domain that is written if none is asked for; 21 where values have 16 bits, if the tool reads that.
            20 holds everything else, and onnxruntime 1.32 refuses some models of 21 where x86 has AVX2 only: for a product of rank 3
            and its bias it makes a QuantizeLinear with an output_dtype of int8, and then gives that a zero point of uint8.
        newest_opset: of the default domain that it reads.
    """

    tool: str
    source: str
    activations: str = ""
    symmetric: bool = False
    signed_weights: bool = False
    float_biases: bool = False
    joined_groups: bool = False
    gate_first: bool = False
    one_scale: bool = False
    every: bool = False
    fine_softmax: bool = False
    opset: int = 20
    newest_opset: int = 21


DIALECTS: Mapping[str, Dialect] = MappingProxyType({
    "ort": Dialect("onnxruntime", "onnxruntime documentation, Quantize ONNX models, QDQ representation"),
    "rknn": Dialect("Rockchip RKNN-Toolkit2", "RKNN-Toolkit2 user guide, quantized ONNX models: asymmetric int8, symmetric weights for each channel",
                    activations="int8", signed_weights=True, float_biases=True, joined_groups=True, gate_first=True,
                    opset=19, newest_opset=19),
    "qnn": Dialect("Qualcomm QNN HTP", "onnxruntime documentation, QNN execution provider: nodes between DequantizeLinear and QuantizeLinear, "
                   "uint8 activations", activations="uint8", signed_weights=True, one_scale=True, every=True, fine_softmax=True, opset=21),
    "tensorrt": Dialect("NVIDIA TensorRT", "TensorRT developer guide, explicit quantization: int8, zero points of 0, biases of floats",
                        activations="int8", symmetric=True, signed_weights=True, float_biases=True),
    "openvino": Dialect("Intel OpenVINO", "OpenVINO documentation, quantized models: QuantizeLinear and DequantizeLinear of u8 and i8"),
})
"""The dialects by name."""

_GRID = frozenset({"Reshape", "Flatten", "Transpose", "MaxPool", "Squeeze", "Unsqueeze", "Slice", "Relu", "Identity", "Expand", "DepthToSpace"})
"""Operators whose results are among the values of their first operand, or zero."""
_MONOTONIC = frozenset({"Relu", "Clip"})
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def dialect_opset(name: str, graph: Graph) -> int:
    """The opset in which a graph is written in a dialect, unless another one is asked for."""
    dialect = DIALECTS[name]
    return min(max(dialect.opset, opset_for(graph)), dialect.newest_opset)


def in_dialect(model: onnx.ModelProto, name: str, opset: int) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model in a dialect, and the names of the nodes that compute with floats which nothing quantizes.

    Raises: EdgeccError E001 for an opset that the tool does not read, E114 naming everything the dialect cannot say.
    """
    dialect = DIALECTS[name]
    if opset > dialect.newest_opset:
        raise EdgeccError("E001", f"{dialect.tool} reads opsets up to {dialect.newest_opset}, not {opset}",
                          hint=f"--backend onnx{{dialect={name},opset={dialect.newest_opset}}}")
    work = QdqModel(model)
    problems = [*_set_activations(work, dialect), *_set_weights(work, dialect)]
    if problems:
        raise EdgeccError("E114", f"dialect {name} ({dialect.tool}) cannot say {len(problems)} thing{'s' if len(problems) > 1 else ''}",
                          details=problems, hint="`edgecc quantize --symmetric` makes models whose zero points are 0; --dialect ort takes all")
    if dialect.activations:
        _set_constants(work, dialect.activations)
    if dialect.float_biases:
        _store_biases(work)
    if dialect.joined_groups:
        _join_groups(work)
    if dialect.gate_first:
        _put_gates_first(work)
    if dialect.one_scale:
        _state_equal_scales_once(work)
    if dialect.every:
        _quantize_every(work)
    if dialect.fine_softmax and opset >= FIRST_OPSET[DType.U16]:
        _refine_softmax(work)
    return work.finished(opset), tuple(_in_floats(work))


def _set_activations(work: QdqModel, dialect: Dialect) -> list[str]:
    """Gives quantized values the dialect's type; returns what stands in the way."""
    problems = []
    moved: set[str] = set()
    for node in work.of(QUANTIZE):
        zero = work.stored[node.input[2]]
        wanted = dialect.activations.replace("8", str(8 * zero.dtype.itemsize))
        if dialect.symmetric and (zero.any() or zero.dtype != dialect.activations):
            problems.append(f"{printable(node.name)}: zero point {int(zero.reshape(-1)[0])} of {zero.dtype}, where it must be 0 of {dialect.activations}")
        elif wanted and zero.dtype != wanted:
            readers = work.readers(node.output[0])
            if node.output[0] in work.interface or any(reader.op_type != DEQUANTIZE for reader in readers):
                problems.append(f"{printable(node.name)}: {zero.dtype} values that are not dequantized at once")
                continue
            for each in (node, *readers):
                each.input[2] = _moved_zero(work, each.input[2], wanted, moved)
    return problems


def _set_constants(work: QdqModel, dtype: str) -> None:
    """Gives constants of 8 bits that are no weights the type of activations: QNN's sums and products take both for the same."""
    for node in work.of(DEQUANTIZE):
        codes = work.stored.get(node.input[0])
        if codes is None or codes.dtype not in (np.int8, np.uint8) or codes.dtype == dtype or any(
                reader.op_type in _WEIGHTED for reader in work.readers(node.output[0])):
            continue
        offset = 128 if dtype == "uint8" else -128
        for place in (0, 2):
            moved = (work.stored[node.input[place]].astype(np.int32) + offset).astype(dtype)
            node.input[place] = work.store(moved, node.input[place])


def _moved_zero(work: QdqModel, name: str, dtype: str, moved: set[str]) -> str:
    """A zero point of the other type of as many bits, which names the same number."""
    if name in moved:
        return name
    zero = work.stored[name]
    offset = 1 << 8 * zero.dtype.itemsize - 1
    fresh = work.store((zero.astype(np.int32) + (offset if dtype.startswith("u") else -offset)).astype(dtype), name)
    moved.add(fresh)
    return fresh


def _set_weights(work: QdqModel, dialect: Dialect) -> list[str]:
    """Makes weights symmetric i8 where the dialect wants that and they can be; returns what stands in the way."""
    problems = []
    for node in work.of(DEQUANTIZE) if dialect.signed_weights else ():
        weights = work.stored.get(node.input[0])
        if weights is None or weights.dtype == np.int32 or not any(r.op_type in _WEIGHTED for r in work.readers(node.output[0])):
            continue
        zero = work.stored[node.input[2]]
        if weights.dtype == np.uint8:
            weights, zero = ((array.astype(np.int32) - 128).astype(np.int8) for array in (weights, zero))
            node.input[0], node.input[2] = work.store(weights, node.input[0]), work.store(zero, node.input[2])
        if zero.any():
            problems.append(f"{printable(node.name)}: weights with zero points other than 0")
    return problems


def _store_biases(work: QdqModel) -> None:
    """Stores what DequantizeLinear makes of constants of 32 bits."""
    for node in work.of(DEQUANTIZE):
        bias = work.stored.get(node.input[0])
        if bias is None or bias.dtype != np.int32:
            continue
        scale = work.stored[node.input[1]].astype(np.float32)
        work.stored[node.output[0]] = ((bias - work.stored[node.input[2]]).astype(np.float32) * scale).astype(np.float32)
        work.nodes = [each for each in work.nodes if each is not node]


def _join_groups(work: QdqModel) -> None:
    """States convolutions in groups as ones whose weights between groups are 0, which changes no sum."""
    for node in work.of("Conv"):
        producer = work.producer(node.input[1])
        (group,) = [each.i for each in node.attribute if each.name == "group"] or [1]
        if producer is None or producer.op_type != DEQUANTIZE or group == 1:
            continue
        weights, scale = work.stored.get(producer.input[0]), work.stored[producer.input[1]]
        if weights is None or weights.shape[1] == 1 or (scale == scale.reshape(-1)[0]).all() or len(work.readers(node.input[1])) != 1:
            continue
        results, channels = weights.shape[0] // group, weights.shape[1]
        whole = np.zeros((weights.shape[0], channels * group, *weights.shape[2:]), weights.dtype)
        for place in range(group):
            rows = slice(place * results, (place + 1) * results)
            whole[rows, place * channels:(place + 1) * channels] = weights[rows]
        producer.input[0] = work.store(whole, producer.input[0])
        kept = [each for each in node.attribute if each.name != "group"]
        del node.attribute[:]
        node.attribute.extend(kept)


def _put_gates_first(work: QdqModel) -> None:
    """Swaps the factors of products whose second one is an error function plus a number."""
    for node in work.of("Mul"):
        total = _behind_quantization(work, node.input[1])
        if total is None or total.op_type != "Add":
            continue
        terms = [_behind_quantization(work, name) for name in total.input]
        if any(term is not None and term.op_type == "Erf" for term in terms):
            node.input[:] = [node.input[1], node.input[0]]


def _behind_quantization(work: QdqModel, name: str) -> onnx.NodeProto | None:
    """The node that computes a value before it is quantized."""
    node = work.producer(name)
    while node is not None and node.op_type in (QUANTIZE, DEQUANTIZE):
        node = work.producer(node.input[0])
    return node


def _state_equal_scales_once(work: QdqModel) -> None:
    """Gives constants whose channels all have the same scale and zero point one of each."""
    for node in work.of(DEQUANTIZE):
        scale, zero = work.stored[node.input[1]], work.stored[node.input[2]]
        if node.input[0] in work.stored and scale.size > 1 and (scale == scale[0]).all() and (zero == zero[0]).all():
            node.input[1], node.input[2] = work.store(scale[0], node.input[1]), work.store(zero[0], node.input[2])
            del node.attribute[:]


def _quantize_every(work: QdqModel) -> None:
    """Quantizes the results of operators between quantized ones, where that changes no number."""
    for node in list(work.nodes):
        following = work.readers(node.output[0])
        quantizes = [each for each in following if each.op_type == QUANTIZE]
        if node.op_type in _MONOTONIC and len(quantizes) == len(following) == 1 and _parameters(work, node.input[0]) is None:
            before = work.producer(node.input[0])
            if before is not None and len(work.readers(node.input[0])) == 1 and node.input[0] not in work.interface:
                work.quantized_after(node.input[0], Parameters(quantizes[0].input[1], quantizes[0].input[2]))
        elif node.op_type in _GRID and following and not quantizes and node.output[0] not in work.interface:
            parameters = _parameters(work, node.input[0])
            if parameters is not None:
                work.quantized_after(node.output[0], parameters)


def _refine_softmax(work: QdqModel) -> None:
    """Quantizes what Softmax computes to u16, of which 256 steps are one of the u8 that it is quantized to next."""
    for node in list(work.of("Softmax")):
        readers = work.readers(node.output[0])
        if len(readers) != 1 or readers[0].op_type != QUANTIZE or work.stored[readers[0].input[2]].dtype != np.uint8:
            continue
        scale, zero = (work.stored[name] for name in readers[0].input[1:])
        work.quantized_after(node.output[0], Parameters(work.store(scale / np.float32(256), readers[0].input[1]),
                                                        work.store(zero.astype(np.uint16) * np.uint16(256), readers[0].input[2])))


def _parameters(work: QdqModel, name: str) -> Parameters | None:
    """How a value was quantized that DequantizeLinear computes; None for others, and where each channel has parameters of its own."""
    node = work.producer(name)
    if node is None or node.op_type != DEQUANTIZE or work.stored[node.input[1]].size != 1 or node.input[0] in work.stored:
        return None
    return Parameters(node.input[1], node.input[2])


def _in_floats(work: QdqModel) -> list[str]:
    """Nodes whose operands or results nothing quantizes; Relu and Clip belong to what is in front of them."""
    made = {name: node for node in work.nodes for name in node.output}
    found: list[onnx.NodeProto] = []
    for node in work.nodes:
        if node.op_type in (QUANTIZE, DEQUANTIZE):
            continue
        operands = [made[name] for name in node.input if name in made]
        alone = node.op_type not in _MONOTONIC and any(each.op_type != DEQUANTIZE for each in operands)
        read = [reader.op_type for reader in work.readers(node.output[0])]
        if alone or any(each in found for each in operands) or not read or any(op not in (QUANTIZE, *_MONOTONIC) for op in read):
            found.append(node)
    return [printable(node.name) for node in found]
