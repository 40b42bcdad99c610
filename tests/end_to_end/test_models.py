"""Real networks through the public interface: compiled for Cortex-A76, executed under emulation, against onnxruntime.

tests/test_models.py looks at the same networks on this machine in more detail.
"""

import pytest

import edgecc
from edgecc.targets.schema import load_target
from tests.support.assets import FLOAT_MODELS, fixture
from tests.support.ccompile import require


@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_compiled_model_agrees_with_its_reference(name):
    model, inputs, expected = fixture(name)
    require(load_target("cortex-a76"))
    outcome = edgecc.verify(model, target="cortex-a76", inputs=inputs, expected=expected)
    assert outcome.ok, outcome.outputs
    assert {o.name for o in outcome.outputs} == {n for n in expected if not n.startswith("noopt__")}

