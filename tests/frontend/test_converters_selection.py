"""Operators whose results are as long as the data says: evaluated where the data is known, else refused."""

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.frontend import import_model

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


@pytest.mark.parametrize(("op_type", "operands"), [("Unique", "x"), ("NonZero", "x"), ("NonMaxSuppression", "x s m")])
def test_data_of_the_run_is_refused(make, op, op_type, operands):
    with pytest.raises(EdgeccError) as caught:
        import_model(make([op(op_type, operands, "y", name="it")], {"x": [1, 8, 4], "s": [1, 2, 8]}, constants={"m": np.array(3)}))
    assert caught.value.code == "E105" and "depends on data" in caught.value.details[0]
