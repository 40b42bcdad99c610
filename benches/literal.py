"""Operators on quantized numbers as ONNX defines them: dequantized operands, the operator on floats, and a quantized result.

    y = QLinearConv(x, xs, xz, w, ws, wz, ys, yz)   ->   y = QuantizeLinear(Conv(DequantizeLinear(x, xs, xz), ...), ys, yz)

Covers those that onnxruntime's quantizer writes. Sources: ONNX QLinearConv-10, QLinearMatMul-10; com.microsoft QGemm, QLinearAdd,
QLinearMul, QLinearConcat, QLinearGlobalAveragePool, QLinearSoftmax (onnxruntime, ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 13
"""First version with a scale for each channel."""


@dataclass(frozen=True)
class _Form:
    """The operator on floats; the places of operands (each followed by its scale and zero point), of the result's scale, and of an integer bias."""

    op: str
    operands: tuple[int, ...]
    result: int
    bias: int = -1
    dropped: tuple[str, ...] = ()


FORMS = {
    "QLinearConv": _Form("Conv", (0, 3), 6, bias=8),
    "QLinearMatMul": _Form("MatMul", (0, 3), 6),
    "QGemm": _Form("Gemm", (0, 3), 7, bias=6),
    "QLinearAdd": _Form("Add", (0, 3), 6),
    "QLinearMul": _Form("Mul", (0, 3), 6),
    "QLinearGlobalAveragePool": _Form("GlobalAveragePool", (0,), 3, dropped=("channels_last",)),
    "QLinearSoftmax": _Form("Softmax", (0,), 3, dropped=("opset",)),
    "QLinearConcat": _Form("Concat", (), 0),
}

_QUANTIZATION = _Form("QuantizeLinear", (0,), 1)


def has_operators(model: onnx.ModelProto) -> bool:
    """Whether there is anything to replace."""
    return any(node.op_type in FORMS for node in model.graph.node)


def with_results(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose further outputs are the results of all operators on quantized numbers, and of quantizations."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    known = {value.name for value in out.graph.output}
    weights = {tensor.name: tensor for tensor in out.graph.initializer}
    for node in out.graph.node:
        form = FORMS.get(node.op_type) or (_QUANTIZATION if node.op_type == _QUANTIZATION.op else None)
        if form is not None and node.output[0] not in known:
            zero = weights[node.input[form.result + 1]]
            out.graph.output.append(helper.make_tensor_value_info(node.output[0], zero.data_type, None))
    return out


def literal(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with these operators replaced by what they mean. Scales of the operands of a bias must be constant."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in out.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in out.graph.node:
        form = FORMS.get(node.op_type)
        if form is None:
            nodes.append(node)
            continue
        places = form.operands or tuple(range(2, len(node.input), 3))
        operands = [_dequantized(nodes, node.input[p:p + 3], axis=_channels(node, p)) for p in places]
        if 0 <= form.bias < len(node.input) and node.input[form.bias]:
            scale = f"{node.output[0]}_bias_scale"
            product = np.asarray(weights[node.input[places[0] + 1]] * weights[node.input[places[1] + 1]], np.float32)
            out.graph.initializer.append(numpy_helper.from_array(product, scale))
            operands.append(_dequantized(nodes, [node.input[form.bias], scale], axis=0))
        computed = helper.make_node(form.op, operands, [f"{node.output[0]}_real"], f"{node.name}_real")
        computed.attribute.extend(own for own in node.attribute if own.name not in form.dropped)
        nodes += [computed, helper.make_node("QuantizeLinear", [computed.output[0], *node.input[form.result:form.result + 2]],
                                             [node.output[0]], node.name)]
    del out.graph.node[:]
    out.graph.node.extend(nodes)
    for opset in out.opset_import:
        if opset.domain == "":
            opset.version = max(opset.version, OPSET)
    return out


def _channels(node: onnx.NodeProto, place: int) -> int:
    """The axis of a scale for each channel of an operand's weights."""
    if node.op_type == "QLinearConv":
        return 0
    transposed = any(own.name == "transB" and own.i for own in node.attribute)
    return 0 if node.op_type == "QGemm" and transposed and place == 3 else 1


def _dequantized(nodes: list[onnx.NodeProto], inputs: Sequence[str], axis: int) -> str:
    name = f"{inputs[0]}_number{len(nodes)}"
    nodes.append(helper.make_node("DequantizeLinear", list(inputs), [name], name, axis=axis))
    return name
