"""The TVM back end passes the kit, and what is its own: targets, forms, the loader, rounding."""

from __future__ import annotations

import pytest

from edgecc.backends.testing import BackendTests

pytest.importorskip("tvm", reason="the extra tvm is not installed")


class TestTvm(BackendTests):
    backend = "tvm{optimize=0}"
    target = "host"
    batch = 200
    least = 149
