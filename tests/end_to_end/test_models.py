"""Real networks through the public interface: compiled for Cortex-A76, executed under emulation, against onnxruntime.

Both compilers have their share of them: every other network is built by the cross gcc instead of by what is found first, zig.
tests/test_models.py looks at the same networks on this machine in more detail.
"""

import shutil

import pytest

import edgecc
from edgecc.targets.schema import load_target
from tests.support.assets import FLOAT_MODELS, fixture
from tests.support.ccompile import require


@pytest.mark.parametrize(("name", "compiler"), [(name, None if number % 2 else "aarch64-linux-gnu-gcc") for number, name in enumerate(FLOAT_MODELS)])
def test_compiled_model_agrees_with_its_reference(name, compiler):
    model, inputs, expected = fixture(name)
    require(load_target("cortex-a76"))
    outcome = edgecc.verify(model, target="cortex-a76", inputs=inputs, expected=expected, cc=compiler and shutil.which(compiler))
    assert outcome.ok, outcome.outputs
    assert {o.name for o in outcome.outputs} == {n for n in expected if not n.startswith("noopt__")}

