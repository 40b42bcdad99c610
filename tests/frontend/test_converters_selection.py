"""Operators whose results are as long as the data says: evaluated where the data is known, else at run time."""

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.ir.dims import symbol

F = np.float32


@pytest.mark.parametrize("attributes", [{}, {"sorted": 0}, {"axis": 0}, {"axis": -1, "sorted": 1}])
def test_unique(check, make, op, attributes):
    x = np.random.default_rng(0).integers(0, 3, (6, 2)).astype(F)
    model = make([op("Unique", "x", "y i v c", **attributes)], {}, ["y", "i", "v", "c"], {"x": x})
    check(model, {}, by="ort")


@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize("threshold", [None, 0.4])
def test_non_max_suppression(check, make, op, centred, threshold):
    random = np.random.default_rng(0)
    constants = {"b": random.random((2, 30, 4)).astype(F), "s": random.random((2, 3, 30)).astype(F), "m": np.array([4]), "i": np.array([0.3], F)}
    if threshold is not None:
        constants["t"] = np.array([threshold], F)
    check(make([op("NonMaxSuppression", " ".join(constants), "y", center_point_box=centred)], {}, ["y"], constants), {}, by="ort")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("op_type", "outputs", "attributes"), [
    ("NonZero", "y", {}), ("Unique", "y i v c", {}), ("Unique", "y i v c", {"axis": 1, "sorted": 0})])
def test_data_of_the_run(check, make, op, op_type, outputs, attributes, seed):
    x = np.random.default_rng(seed).integers(0, seed + 1, (3, 4)).astype(F)
    check(make([op(op_type, "x", outputs, **attributes)], {"x": x}, outputs.split()), {"x": x}, by="ort")


@pytest.mark.parametrize("chosen", [[False, True, True], [False, True, True, False, True]])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_slices_chosen_by_the_run(check, make, op, axis, chosen):
    x, chosen = np.arange(12, dtype=F).reshape(3, 4), np.array(chosen)
    attributes = {} if axis is None else {"axis": axis}
    check(make([op("Compress", "x c", "y", **attributes)], {"x": x, "c": chosen}), {"x": x, "c": chosen}, by="ort")


@pytest.mark.parametrize("most", [0, 2, 9])
def test_boxes_of_the_run(check, make, op, most):
    random = np.random.default_rng(1)
    given = {"b": random.random((2, 8, 4)).astype(F), "s": random.random((2, 3, 8)).astype(F), "m": np.array([most])}
    model = make([op("NonMaxSuppression", "b s m i t", "y")], given, ["y"], {"i": np.array([0.3], F), "t": np.array([0.5], F)})
    graph = check(model, given, by="ort")
    assert graph.outputs[0].type.shape[0] == symbol("y", 0, 48)


def test_sizes_have_names_of_their_own(make, op):
    """Also where an input's dimension is called like the result; equal counts are one size."""
    nodes = [op("NonZero", "x", "y"), op("Transpose", "y", "t"), op("Compress", "x c", "z", axis=0)]
    graph = import_model(make(nodes, {"x": [3, 4], "c": np.zeros(3, bool)}, ["y", "t", "z"]), shapes={})
    assert [str(value.type) for value in graph.outputs] == ["i64[2,y:0..12]", "i64[y:0..12,2]", "f32[z:0..3,4]"]


def test_sizes_that_nothing_bounds_are_refused(make, op, info):
    model = make([op("ConstantOfShape", "n", "y")], {"n": np.array([3])})
    with pytest.raises(EdgeccError) as caught:
        import_model(model)
    assert caught.value.code == "E105" and "nothing says how large" in caught.value.details[0]
