"""Flags that several commands have, with their help; and the refusal of flags that would do nothing.

A command's parameters name one of these types and give the default: `shape: Shape = None`. Lists are repeatable flags. Flags that go
together are groups (edgecc/cli/groups.py), in compiling.py and quantizing.py.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from edgecc.cli.output import note
from edgecc.errors import EdgeccError

for_code = partial(typer.Option, rich_help_panel="How code is made")
"""An option of that part of the help."""

TargetName = Annotated[str, typer.Option("--target", help="A target of `edgecc targets`, or a path to a TOML file.")]
Shape = Annotated[list[str] | None, typer.Option(metavar="NAME=SIZE", help="Size of a dynamic input or dimension: input=1x3x224x224, batch=1; batch=1..8 leaves it open. Repeatable.", show_default=False)]
Constant = Annotated[list[str] | None, typer.Option(metavar="INPUT=VALUE", help="Value of an input that is the same in every run, and becomes no input: sr=16000, sizes=640,480 or mask=mask.npy. Repeatable.", show_default=False)]
LimitList = Annotated[list[str] | None, typer.Option("--limits", metavar="LIMIT=NUMBER", help="A limit on untrusted models instead of the usual one: nodes=50000, elements=2e9. Repeatable.", show_default=False)]
SizesFile = Annotated[Path | None, typer.Option("--inputs", help="An .npz file whose arrays give the sizes of dynamic inputs.", show_default=False)]
InputsFile = Annotated[Path | None, typer.Option("--inputs", help="An .npz file with the inputs; random ones by default.", show_default=False)]
Seed = Annotated[int, typer.Option(help="Seed of random inputs.")]
Threads = Annotated[int, for_code(help="Threads a run uses.")]
DepthFirst = Annotated[str, for_code(metavar="auto|off", help="auto: run chains of layers stripe by stripe where that saves memory or time; off.")]
Precision = Annotated[str, for_code(metavar="fp32|fp16|bf16", help="What weights and activations are stored and computed in.")]
Checks = Annotated[str, for_code(metavar="trap|clamp|off", help="Run-time indices outside of their axis: trap ends the run with status 5, clamp moves them, off trusts that there are none.")]
BackendName = Annotated[str | None, typer.Option("--backend", help="A back end of `edgecc doctor`, with options: onnx{opset=17}. By default the one that emits what is asked for.", show_default=False)]
Dialect = Annotated[str | None, typer.Option(help="With --emit onnx: quantization as a vendor's tool wants it: ort, rknn, qnn, tensorrt or openvino.", show_default=False)]
CompilerName = Annotated[str | None, typer.Option("--cc", help="The C compiler.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def refuse_given(context: typer.Context, names: Collection[str], where: str) -> None:
    """Refuses flags that would have no effect, where a user would get another result than the flag promises.

    Args:
        names: of parameters of the command; those that the command line does not give are no matter.
        where: beside what they do nothing: "without --quantize".
    Raises: EdgeccError E001 that names the flags.
    """
    if given := _given(context, names):
        raise EdgeccError("E001", f"{given} would do nothing {where}", where=f"edgecc {context.command.name}")


def note_given(context: typer.Context, names: Collection[str], where: str) -> None:
    """Tells of flags without an effect that change no result: those that only show more of it."""
    if given := _given(context, names):
        note(f"{given} does nothing {where}")


def _given(context: typer.Context, names: Collection[str]) -> str:
    """The flags of `names` that the command line gives, with commas between them."""
    # The class of sources moved between Typer's versions; their names stayed.
    return ", ".join(parameter.opts[0] for parameter in context.command.params
                     if parameter.name in names and getattr(context.get_parameter_source(parameter.name), "name", "") == "COMMANDLINE")
