"""Models of opsets before 7: operators that are the same, those that are adapted, and those that are refused."""

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.reference.executor import execute


def outcome(make, op, op_type, feeds, *, opset=6, **attributes):
    model = make([op(op_type, " ".join(feeds), "y", **attributes)], feeds, opset=opset)
    return execute(import_model(model), feeds)["y"]


@pytest.mark.parametrize(("shape", "axis", "wanted"), [((3,), 1, (3, 1)), ((4,), None, (4,)), ((2, 3), 0, (2, 3, 1)), ((), None, ())])
@pytest.mark.parametrize(("op_type", "meaning"), [("Add", np.add), ("Sub", np.subtract), ("Div", np.divide), ("Mul", np.multiply)])
def test_operands_line_up_by_the_attribute_axis(make, op, random, op_type, meaning, shape, axis, wanted):
    a, b = random(2, 3, 4), random(*shape)
    attributes = {"broadcast": 1} | ({} if axis is None else {"axis": axis})
    got = outcome(make, op, op_type, {"a": a, "b": b}, **attributes)
    np.testing.assert_allclose(got, meaning(a, b.reshape(wanted)), rtol=1e-6)


def test_operands_must_be_equal_without_broadcast(make, op, random):
    with pytest.raises(EdgeccError) as caught:
        outcome(make, op, "Add", {"a": random(2, 3), "b": random(3)})
    assert caught.value.code == "E110"


def test_the_slope_of_prelu_lies_along_the_channels(make, op, random):
    x, slope = random(2, 3, 4, 5), random(3)
    got = outcome(make, op, "PRelu", {"x": x, "slope": slope})
    np.testing.assert_allclose(got, np.where(x < 0, x * slope.reshape(3, 1, 1), x), rtol=1e-6)


def test_the_shape_of_reshape_is_an_attribute_at_first(make, op, random):
    x = random(2, 6)
    np.testing.assert_array_equal(outcome(make, op, "Reshape", {"x": x}, opset=1, shape=[3, -1]), x.reshape(3, 4))


def test_operators_that_opset_7_defines_otherwise_are_refused(make, op, random):
    for op_type, attributes in (("Dropout", {}), ("Concat", {})):
        with pytest.raises(EdgeccError) as caught:
            outcome(make, op, op_type, {"x": random(2, 3)}, opset=3 if op_type == "Concat" else 6, **attributes)
        assert caught.value.code == "E105"
