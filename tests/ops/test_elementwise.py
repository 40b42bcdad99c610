import numpy as np
import pytest
from onnx import TensorProto

from edgecc.errors import EdgeccError
from edgecc.ir.scalar import Arg, Literal, apply, children, convert, literal
from edgecc.ir.types import DType, TensorType
from edgecc.ops.elementwise import ELEMENTWISE, Elementwise

F32 = DType.F32
ANY = {}

# ONNX name -> (element types of the operands, one string a case; attributes, one dict a case)
CASES = {
    **{name: (["f4 f4", "f8 f8", "i4 i4", "u1 u1"], [ANY]) for name in ("Add", "Sub", "Mul")},
    "Div": (["f4 f4", "i4 i4", "i1 i1"], [ANY]),
    "Mod": (["i4 i4", "u1 u1", "i8 i8"], [{"fmod": 0}, {"fmod": 1}]),
    "Pow": (["f4 f4", "f4 i4", "f8 f4"], [ANY]),
    **{name: (["f4", "f4 f4", "i4 i4 i4", "f4 f4 f4 f4"], [ANY]) for name in ("Min", "Max")},
    "Sum": (["f4", "f4 f4 f4", "f8 f8"], [ANY]), "Mean": (["f4", "f4 f4 f4"], [ANY]),
    "Neg": (["f4", "i4"], [ANY]), "Abs": (["f4", "i4", "u1"], [ANY]), "Sign": (["f4", "i4"], [ANY]),
    **{name: (["f4", "f8"], [ANY]) for name in (
        "Floor", "Ceil", "Round", "Sqrt", "Reciprocal", "Exp", "Log", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan",
        "Sinh", "Cosh", "Tanh", "Asinh", "Acosh", "Atanh", "Sigmoid", "Softplus", "Softsign", "Mish")},
    "Erf": (["f4"], [ANY]), "HardSwish": (["f4"], [ANY]),
    "Relu": (["f4", "i4"], [ANY]),
    "LeakyRelu": (["f4"], [ANY, {"alpha": 0.3}]), "PRelu": (["f4 f4"], [ANY]), "Elu": (["f4"], [ANY, {"alpha": 2.5}]),
    "Selu": (["f4"], [ANY, {"alpha": 1.5, "gamma": 2.0}]), "Celu": (["f4"], [ANY, {"alpha": 2.0}]),
    "ThresholdedRelu": (["f4"], [ANY, {"alpha": 0.5}]), "HardSigmoid": (["f4"], [ANY, {"alpha": 0.5, "beta": 0.4}]),
    "Gelu": (["f4"], [ANY, {"approximate": "tanh"}]), "Shrink": (["f4"], [ANY, {"lambd": 1.0, "bias": 0.5}]),
    "Swish": (["f4"], [ANY, {"alpha": 1.5}]),
    "Clip": (["f4", "f4 f4", "f4 f4 f4", "i4 i4 i4"], [ANY]),
    "Not": (["?"], [ANY]), **{name: (["? ?"], [ANY]) for name in ("And", "Or", "Xor")},
    "BitwiseNot": (["i4", "u1"], [ANY]), **{name: (["i4 i4", "u1 u1"], [ANY]) for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")},
    "BitShift": (["u1 u1", "u4 u4"], [{"direction": "LEFT"}, {"direction": "RIGHT"}]),
    "Equal": (["f4 f4", "i4 i4", "? ?"], [ANY]),
    **{name: (["f4 f4", "i4 i4"], [ANY]) for name in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual")},
    "IsNaN": (["f4"], [ANY]),
    "IsInf": (["f4"], [ANY, {"detect_positive": 0}, {"detect_negative": 0}, {"detect_positive": 0, "detect_negative": 0}]),
    "Where": (["? f4 f4", "? i8 i8", "? ? ?"], [ANY]),
    "Cast": (["f4", "i4", "?"], [{"to": t} for t in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32,
                                                    TensorProto.INT64, TensorProto.BOOL, TensorProto.DOUBLE)]),
    "BitCast": (["f4", "i4"], [{"to": TensorProto.FLOAT}, {"to": TensorProto.INT32}, {"to": TensorProto.UINT32}]),
    "CastLike": (["f4 i4", "i4 f4", "f4 ?"], [ANY]),
}
DOMAINS = {"Log": (0.01, 3), "Sqrt": (0, 3), "Asin": (-1, 1), "Acos": (-1, 1), "Atanh": (-0.9, 0.9), "Acosh": (1, 4),
           "BitShift": (0, 7), "Tan": (-1.4, 1.4), "Pow": (0.1, 3)}
NONZERO = ("Mod", "Div", "Reciprocal")


def test_cases_cover_the_table():
    assert set(CASES) == set(ELEMENTWISE)


def build(name, arrays, attributes):
    operands = [None if a is None else Arg(i, DType.from_numpy(a.dtype)) for i, a in enumerate(arrays)]
    return Elementwise(ELEMENTWISE[name].build(operands, attributes))


@pytest.mark.parametrize("name", CASES)
def test_row_agrees_with_onnx(draw, by_onnx, by_onnxruntime, check_op, name):
    signatures, attribute_cases = CASES[name]
    low, high = DOMAINS.get(name, (-3, 3))
    shapes = [(5, 1, 31), (4, 31), (1,), ()]
    for signature in signatures:
        for attributes in attribute_cases:
            arrays = []
            for position, dtype in enumerate(signature.split()):
                shape = () if name == "Clip" and position else shapes[position]
                array = draw(shape, dtype, max(low, 0) if dtype[0] == "u" else low, high)
                arrays.append(np.where(array == 0, np.ones_like(array), array) if name in NONZERO else array)
            if name == "PRelu":
                arrays[1] = arrays[1][0]
            if name in ("IsNaN", "IsInf"):
                arrays[0].flat[:3] = (np.nan, np.inf, -np.inf)
            if name == "Swish":
                a = attributes.get("alpha", 1.0)
                expected = [arrays[0].astype("f8") / (1 + np.exp(-a * arrays[0].astype("f8")))]
            else:
                # onnx.reference does not broadcast in Mean
                expected = (by_onnxruntime if name == "Mean" else by_onnx)(name, arrays, attributes, opset=22)
            op = build(name, arrays, attributes)
            check_op(op, arrays[:1] if name == "CastLike" else arrays, expected, units=16)


@pytest.mark.parametrize("name", ["Relu", "Max", "Min", "Clip", "HardSwish", "Sigmoid", "Tanh", "Softplus", "Gelu", "Mish", "Elu",
                                  "Exp", "Sign", "Abs"])
def test_special_values(name):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], "f4")
    arrays = [x, np.array(1.0, "f4")][:1 if name not in ("Max", "Min", "Clip") else 2]
    (y,) = build(name, arrays, {}).reference(arrays)
    assert np.isnan(y[0])
    positive = {"Sigmoid": 1.0, "Tanh": 1.0, "Sign": 1.0, "Min": 1.0}.get(name, np.inf)
    negative = {"Exp": 0.0, "Sigmoid": 0.0, "Tanh": -1.0, "Sign": -1.0, "Elu": -1.0, "Abs": np.inf, "Min": -np.inf,
                "Relu": 0.0, "Max": 1.0, "Clip": 1.0, "Softplus": 0.0}.get(name)
    assert y[1] == positive
    if negative is not None:
        assert y[2] == negative


@pytest.mark.parametrize(("low", "high", "expected"), [
    (None, None, [-5, 0, 5]), (-1.0, None, [-1, 0, 5]), (None, 1.0, [-5, 0, 1]), (-1.0, 1.0, [-1, 0, 1]), (2.0, 1.0, [1, 1, 1])])
@pytest.mark.parametrize("as_operands", [False, True])
def test_clip_takes_limits_as_attributes_or_operands(low, high, expected, as_operands):
    x = np.array([-5, 0, 5], "f4")
    limits = [None if v is None else np.array(v, "f4") for v in (low, high)]
    if as_operands:
        op = build("Clip", [x, *limits], {})
    else:
        op = build("Clip", [x], {k: v for k, v in (("min", low), ("max", high)) if v is not None})
    # An absent operand keeps its position in the expression; the node then leaves it out and renumbers.
    operands = [x, *(np.zeros((), "f4") if v is None else v for v in limits)] if as_operands else [x]
    assert op.reference(operands)[0].tolist() == expected


@pytest.mark.parametrize(("source", "target", "expected"), [
    (np.array([300.7, -300.0, np.nan, 1.9, -1.9], "f4"), TensorProto.INT8, [127, -128, 0, 1, -1]),
    (np.array([1e30, -1e30], "f4"), TensorProto.INT64, [2**63 - 1, -2**63]),
    (np.array([-1.0, 3e9], "f8"), TensorProto.UINT32, [0, 3000000000]),
    (np.array([300, -1], "i4"), TensorProto.UINT8, [44, 255]),
    (np.array([0.0, 0.1, np.nan], "f4"), TensorProto.BOOL, [False, True, True]),
    (np.array([1e6, 1 + 2**-11], "f4"), TensorProto.FLOAT16, [np.inf, 1.0]),
])
def test_cast_saturates_and_rounds_to_even(source, target, expected):
    assert build("Cast", [source], {"to": target}).reference([source])[0].tolist() == expected


def test_integer_arithmetic_wraps_and_division_by_zero_is_zero():
    a, b = np.array([127, -7, 5], np.int8), np.array([1, 2, 0], np.int8)
    assert build("Add", [a, b], {}).reference([a, b])[0].tolist() == [-128, -5, 5]
    assert build("Div", [a, b], {}).reference([a, b])[0].tolist() == [127, -3, 0]
    assert build("Mod", [a, b], {}).reference([a, b])[0].tolist() == [0, 1, 0]
    assert build("Mod", [a, b], {"fmod": 1}).reference([a, b])[0].tolist() == [0, -1, 0]


def test_shifts_by_the_width_give_zero():
    a, b = np.array([255, 255, 255], np.uint8), np.array([1, 8, 200], np.uint8)
    assert build("BitShift", [a, b], {"direction": "LEFT"}).reference([a, b])[0].tolist() == [254, 0, 0]
    assert build("BitShift", [a, b], {"direction": "RIGHT"}).reference([a, b])[0].tolist() == [127, 0, 0]


def test_power_of_mixed_types_keeps_the_base_type():
    base, exponent = np.array([2, 3, -2], "i4"), np.array([0.5, 2.0, 3.0], "f4")
    assert build("Pow", [base, exponent], {}).reference([base, exponent])[0].tolist() == [1, 9, -8]


@pytest.mark.parametrize(("name", "operands", "attributes", "code", "message"), [
    ("Relu", [Arg(0, F32), Arg(1, F32)], {}, "E102", "2 operands are given, wanted 1"),
    ("Add", [Arg(0, F32), None], {}, "E102", "1 operands are given, wanted 2"),
    ("Max", [], {}, "E102", "wanted at least one"),
    ("Clip", [], {}, "E102", "wanted x"),
    ("Add", [Arg(0, F32), Arg(1, DType.F64)], {}, "E110", "have types f32, f64"),
    ("Sqrt", [Arg(0, DType.I32)], {}, "E110", "sqrt does not take i32"),
    ("Gelu", [Arg(0, F32)], {"approximate": "sigmoid"}, "E102", "wanted one of none, tanh"),
    ("BitShift", [Arg(0, DType.U8), Arg(1, DType.U8)], {}, "E102", "wanted one of LEFT, RIGHT"),
    ("LeakyRelu", [Arg(0, F32)], {"alpha": "x"}, "E102", "alpha is 'x', wanted a number"),
    ("Cast", [Arg(0, F32)], {"to": TensorProto.STRING}, "E110", "not converted to string"),
])
def test_builders_say_what_is_wrong(name, operands, attributes, code, message):
    with pytest.raises(EdgeccError) as caught:
        ELEMENTWISE[name].build(operands, attributes)
    assert caught.value.code == code and message in caught.value.message


def test_string_attributes_may_be_bytes():
    assert ELEMENTWISE["Gelu"].build([Arg(0, F32)], {"approximate": b"tanh"}) == ELEMENTWISE["Gelu"].build(
        [Arg(0, F32)], {"approximate": "tanh"})


# -- the operator -----------------------------------------------------------------------------------------


def test_unread_operands_broadcast_and_no_operands_give_a_scalar():
    x, y = np.ones((3, 1), "f4"), np.ones((4,), "i4")
    op = Elementwise(Arg(0, F32))
    assert op.infer([TensorType.of(x), TensorType.of(y)]) == (TensorType(F32, (3, 4)),)
    assert op.reference([x, y])[0].shape == (3, 4)
    assert Elementwise(literal(2.5, F32)).infer([]) == (TensorType(F32, ()),)
    assert Elementwise(literal(2.5, F32)).reference([])[0].item() == 2.5


def test_plain_evaluation_rounds_once_and_wide_not_at_all():
    x = np.array([1.0], "f4")
    third = apply("div", Arg(0, F32), literal(3.0, F32))
    op = Elementwise(apply("sub", apply("mul", third, literal(3.0, F32)), literal(1.0, F32)))
    assert op.reference([x])[0].item() == 0.0  # 1/3 was not rounded in between
    wide = Elementwise(convert(third, DType.F16)).reference([x.astype("f8")])[0]
    assert wide.dtype == np.float64 and wide.item() == 1 / 3


def test_magnitude_counts_roundings_where_terms_cancel():
    x, y = np.array([1.0], "f4"), np.array([1.0], "f4")
    square = apply("mul", Arg(0, F32), literal(1000.0, F32))
    difference = Elementwise(apply("sub", square, apply("mul", Arg(1, F32), literal(1000.0, F32))))
    assert difference.reference([x, y])[0].item() == 0.0
    assert 1999 < difference.magnitude([x, y])[0].item() < 2001
    assert Elementwise(apply("sub", Arg(0, F32), Arg(1, F32))).magnitude([x, y])[0].item() == 0.0


def test_magnitude_of_an_exact_comparison_is_not_loosened():
    x = np.array([2.0], "f4")
    assert Elementwise(apply("floor", Arg(0, F32))).magnitude([x])[0].item() == 2.0


@pytest.mark.parametrize(("expr", "types", "message"), [
    (Arg(1, F32), [TensorType(F32, (2,))], "the expression reads operand 1, there are 1"),
    (Arg(0, DType.I8), [TensorType(F32, (2,))], "reads operand 0 as i8, it is f32"),
    (Arg(0, F32), [TensorType(F32, (2, 3)), TensorType(F32, (2,))], "axis -1 has sizes 3 and 2"),
    (Arg(0, F32), [TensorType(F32, (2**21, 1)), TensorType(F32, (2**21,))], "more than 2^40 elements"),
])
def test_shape_rule_says_what_is_wrong(expr, types, message):
    with pytest.raises(EdgeccError) as caught:
        Elementwise(expr).infer(types)
    assert caught.value.code == "E110" and message in caught.value.message


def test_shape_rule_refuses_an_absent_operand():
    with pytest.raises(EdgeccError, match="operand 0 is absent"):
        Elementwise(Arg(0, F32)).infer([None])


def test_rows_document_themselves_and_hold_rounded_literals():
    for name, row in ELEMENTWISE.items():
        assert row.onnx_name == name and row.doc
    pending, literals = [ELEMENTWISE["LeakyRelu"].build([Arg(0, F32)], {"alpha": 0.1})], []
    while pending:
        node = pending.pop()
        pending += children(node)
        literals += [node.value] if isinstance(node, Literal) else []
    assert float(np.float32(0.1)) in literals
