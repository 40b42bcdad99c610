"""What the tests of the quantizer share."""

import pytest

from edgecc.errors import EdgeccError
from edgecc.quantization import observe


@pytest.fixture(scope="module")
def no_compiler():
    """The reference runs small networks sooner than a compiler compiles them."""
    def missing(*_: object, **__: object) -> None:
        raise EdgeccError("E400", "no compiler here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observe, "load", missing)
        yield
