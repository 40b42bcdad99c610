"""Real networks from the ONNX file to running code, against what onnxruntime computed for them."""

import pytest

import edgecc
from tests.support.assets import FLOAT_MODELS, fixture
from tests.support.ccompile import require
from edgecc.targets.schema import load_target


@pytest.mark.parametrize("target", ["host", "cortex-a76"])
@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_compiled_model_agrees_with_its_reference(name, target):
    model, inputs, expected = fixture(name)
    if target != "host":
        require(load_target(target))
    outcome = edgecc.verify(model, target=target, inputs=inputs, expected=expected)
    assert outcome.ok, outcome.outputs
    assert {o.name for o in outcome.outputs} == {n for n in expected if not n.startswith("noopt__")}


def test_arena_of_mobilenet_is_within_five_percent_of_its_lower_bound():
    model, inputs, _ = fixture("mobilenet_v2_fp32")
    manifest = edgecc.compile(model, target="cortex-a76", inputs=inputs).manifest
    assert manifest.arena_bytes <= 1.05 * manifest.arena_lower_bound
