"""The headers of a file of kernels declare what kernels may call."""

from __future__ import annotations

import re
import subprocess

import pytest

from edgecc.backends.c.backend import target_isa
from edgecc.targets.schema import load_target


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4", "x86-64-v4-bf16"])
def test_every_intrinsic_of_x86_is_declared(name):
    target = load_target(name)
    isa = target_isa(target)
    called = set(re.findall(r"\b_mm\w+(?=\()|\b_cvt\w+(?=\()|\b_CMP_\w+|\b_MM_\w+", " ".join(row.text for row in isa.rows.values())))
    read = subprocess.run(["gcc", *target.isa.gcc, "-E", "-dD", "-"], input=isa.includes, capture_output=True, text=True, check=True).stdout
    assert len(called) > 100 and called <= set(re.findall(r"\w+", read))
