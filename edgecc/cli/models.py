"""The model that a command is about, as an argument."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgecc import api
from edgecc.artifact.folder import MANIFEST_NAME
from edgecc.errors import EdgeccError, printable


def uncompiled(path: Path) -> Path:
    """The path of a model, unless a folder or a library is there: these hold code, not what it should compute.

    Raises: EdgeccError E007.
    """
    if not api.is_compiled(path):
        return path
    name = printable(str(path))
    if path.is_dir() and not (path / MANIFEST_NAME).is_file():
        raise EdgeccError("E007", f"'{name}' is not a file", hint="give the .onnx file")
    raise EdgeccError("E007", f"'{name}' is compiled code, not the model it was made of",
                      hint=f"edgecc run {name} runs it; edgecc verify MODEL compiles the model again and compares")


Model = Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX model.", show_default=False, callback=uncompiled)]
FloatModel = Annotated[Path, typer.Argument(metavar="MODEL", help="A float ONNX model.", show_default=False, callback=uncompiled)]
