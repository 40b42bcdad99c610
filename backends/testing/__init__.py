"""Tests that every back end should pass, for its author to run under pytest.

    from edgecc.backends.testing import BackendTests

    class TestAcmeNpu(BackendTests):
        backend = "acme-npu"
        target = "acme-board"

That is a whole test file. docs/adding-a-backend.md says what is tested and what may be set.
"""

from edgecc.backends.testing.kit import BackendTests

__all__ = ["BackendTests"]
