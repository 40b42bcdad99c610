"""The kit for authors of back ends on the LLVM back end: every example of every operator, in this process."""

from __future__ import annotations

from edgecc.backends.testing import BackendTests


class TestLlvm(BackendTests):
    backend = "llvm"
    target = "host"
    batch = 200
    least = 160
    models = (("examples/digits/digits.onnx", {"image": (2, 1, 8, 8)}),)
