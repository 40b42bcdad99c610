"""What back ends write for other tools is run like a compiled model, from a model or from the folder."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc import api
from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.reference.executor import execute
from tests.support.documents import ROOT

pytest.importorskip("onnxruntime")

DIGITS = ROOT / "examples" / "digits" / "digits.onnx"
SHAPES = {"image": (1, 1, 8, 8)}


def test_a_model_and_its_folder(tmp_path):
    image = np.random.default_rng(0).random(SHAPES["image"], dtype=np.float32)
    want = execute(import_model(DIGITS, shapes=SHAPES), {"image": image})["probabilities"]
    api.compile(DIGITS, target="host", output=tmp_path / "out", backend="onnx", shapes=SHAPES)
    for model in (api.load_or_compile(DIGITS, "host", backend="onnx", options=api.Options(shapes=SHAPES)), api.load_or_compile(tmp_path / "out", None)):
        with model:
            np.testing.assert_allclose(model.run({"image": image})["probabilities"], want, rtol=1e-4, atol=1e-6)
            with pytest.raises(EdgeccError, match="E001"):
                model.benchmark(1)
            with pytest.raises(EdgeccError, match="E005"):
                model.run({"image": image[0]})
