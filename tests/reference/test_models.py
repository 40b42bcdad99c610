"""Real networks executed by the reference agree with what onnxruntime computed for them."""

import os
from pathlib import Path

import numpy as np
import pytest

from edgecc.frontend import import_model
from edgecc.reference.compare import compare_outputs, observe_graph
from edgecc.reference.executor import execute

ASSETS = Path(os.environ.get("EDGECC_SHARED", Path(__file__).parents[3] / "shared")) / "assets"
MODELS = ("mobilenet_v2_fp32", "ultraface_rfb320", "fastestdet", "kws_dscnn_fp32", "silero_vad_16k", "silero_vad_16k_static",
          "gtcrn_stream_simple", "minilm_l6_fp16w", "stories260k_prefill", "stories260k_decode", "stories260k_static")


def loaded(name):
    if not (ASSETS / "models" / f"{name}.onnx").exists():
        pytest.skip(f"the shared models are not at {ASSETS}")
    feeds, expected = (dict(np.load(ASSETS / "fixtures" / f"{name}.{end}.npz")) for end in ("in", "out"))
    return import_model(ASSETS / "models" / f"{name}.onnx", inputs=feeds), feeds, expected


@pytest.mark.parametrize("name", MODELS)
def test_reference_agrees_with_onnxruntime(name):
    graph, feeds, expected = loaded(name)
    # A tenth of the default: the reference rounds once an operator, so what is left is mostly onnxruntime's own error.
    for comparison in compare_outputs(execute(graph, feeds), expected, relative=1e-5):
        assert comparison.ok, comparison


@pytest.mark.parametrize("name", ["kws_dscnn_fp32", "silero_vad_16k", "gtcrn_stream_simple", "stories260k_prefill", "minilm_l6_fp16w"])
def test_measured_magnitudes_predict_the_rounding_errors_of_networks(name):
    """One rounding for each operator: the error is below one unit everywhere, and not far below."""
    graph, feeds, _ = loaded(name)
    seen = observe_graph(graph, feeds)
    for output, magnitude in seen.magnitudes.items():
        if seen.wide[output].dtype.kind == "f":
            units = np.abs(seen.plain[output] - seen.wide[output]) / (2.0**-24 * magnitude)
            assert 1e-4 < units.max() < 2.0
