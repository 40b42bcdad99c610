"""The model that a command is about: its argument, and what is known of it before it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edgecc import api
from edgecc.artifact.folder import MANIFEST_NAME
from edgecc.cli import flags
from edgecc.cli.arguments import parse_constants, parse_limits, parse_shapes
from edgecc.errors import EdgeccError, printable
from edgecc.ir.types import Array


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


@dataclass(frozen=True)
class Binding:
    """Sizes and values of a model's inputs, and what it may ask for."""

    shape: flags.Shape = None
    constant: flags.Constant = None
    limits: flags.LimitList = None

    def options(self, inputs: Mapping[str, Array] | None = None) -> api.Options:
        """The options that say so; `inputs` give sizes too. Raises: EdgeccError E001, E007."""
        return api.Options(shapes=parse_shapes(self.shape or []), constants=parse_constants(self.constant or []),
                           limits=parse_limits(self.limits or []), inputs=inputs)
