"""Windows over images of open sizes whose padding the run decides, at the beginning too: agree with onnxruntime at all corners."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.frontend.bind import Range
from tests.frontend.test_open_dims import agrees
from tests.support.onnx_models import model

WEIGHTS = np.random.default_rng(0).standard_normal((4, 2, 3, 5), dtype=np.float32)
OPEN = {"x": (1, 2, Range(5, 8), Range(4, 7))}


@pytest.mark.parametrize(("side", "strides"), [("SAME_UPPER", [2, 2]), ("SAME_UPPER", [1, 4]), ("SAME_LOWER", [3, 2])])
@pytest.mark.parametrize(("op", "attributes"), [
    ("Conv", {}), ("MaxPool", {"kernel_shape": [3, 5]}), ("AveragePool", {"kernel_shape": [3, 5]}),
    ("AveragePool", {"kernel_shape": [3, 5], "count_include_pad": 1}), ("ConvTranspose", {})])
def test_padding_of_the_run(op, attributes, side, strides):
    weighted = op.startswith("Conv")
    weights = np.swapaxes(WEIGHTS, 0, 1).copy() if op == "ConvTranspose" else WEIGHTS
    node = (op, "n w" if weighted else "n", "y", {"auto_pad": side, "strides": strides, **attributes})
    proto = model([("Abs", "x", "a", {}), ("Neg", "a", "n", {}), node], {"x": [1, 2, "h", "w_"]},
                  constants={"w": weights} if weighted else {})
    agrees(proto, OPEN)


def test_a_window_smaller_than_its_stride_needs_no_padding():
    agrees(model([("Conv", "x w", "y", {"auto_pad": "SAME_UPPER", "strides": [2, 2]})], {"x": [1, 2, "h", "w_"]}, constants={"w": WEIGHTS[:, :, :1, :1]}), OPEN)


def test_integers_are_padded_with_the_least():
    node = ("MaxPool", "x", "y", {"auto_pad": "SAME_UPPER", "strides": [2, 2], "kernel_shape": [3, 3]})
    proto = model([("Abs", "x", "a", {}), ("Sub", "one a", "n", {}), ("Mul", "n three", "l", {}), ("Cast", "l", "i", {"to": 3}), (node[0], "i", "m", node[3]), ("Cast", "m", "y", {"to": 1})], {"x": [1, 2, "h", "w_"]},
                  constants={"one": np.float32(-1), "three": np.float32(3)})
    agrees(proto, OPEN)


def test_positions_need_steps():
    proto = model([("MaxPool", "x", "y i", {"auto_pad": "SAME_UPPER", "strides": [2, 2], "kernel_shape": [3, 3]})], {"x": [1, 2, "h", "w_"]})
    proto.graph.output.add().name = "i"
    with pytest.raises(EdgeccError, match="pads at its beginning"):
        import_model(proto, shapes=OPEN)
