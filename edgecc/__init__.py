"""edgecc compiles ONNX models to self-contained C for edge devices.

    import edgecc
    edgecc.compile("model.onnx", target="cortex-a76", output="out/model")
    outputs = edgecc.load("out/model").run({"input": array})
    assert edgecc.verify("model.onnx", target="cortex-a76").ok

The functions are those of edgecc/api. A `Range` as a size leaves a dimension open between bounds. They are imported when they are first used, so that
`import edgecc` and the command line's help stay quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgecc.version import VERSION as __version__

if TYPE_CHECKING:
    from edgecc.api import Artifact, Model, Verification, compile, load, verify
    from edgecc.errors import EdgeccError
    from edgecc.frontend.bind import Range

__all__ = ["Artifact", "EdgeccError", "Model", "Range", "Verification", "__version__", "compile", "load", "verify"]
_HOMES = {"EdgeccError": "edgecc.errors", "Range": "edgecc.frontend.bind"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module(_HOMES.get(name, "edgecc.api")), name)
    raise AttributeError(f"module 'edgecc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
