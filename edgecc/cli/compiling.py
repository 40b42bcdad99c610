"""What the commands that compile share: their flags, and the options these become."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from edgecc import api
from edgecc.cli import flags
from edgecc.cli.flags import for_code
from edgecc.targets.precision import FP32
from edgecc.targets.schema import Target
from edgecc.tuning.record import Tuning, read_for


@dataclass(frozen=True)
class Code:
    """How code is made of it."""

    threads: flags.Threads = 1
    depth_first: flags.DepthFirst = "auto"
    precision: flags.Precision = "fp32"
    keep_fp32: Annotated[list[str] | None, for_code(metavar="NODE", help="A node of the model that keeps fp32. Repeatable.", show_default=False)] = None
    tuning: Annotated[Path | None, for_code(help="A file of `edgecc tune`, whose measurements choose the kernels.", show_default=False)] = None
    passes: Annotated[str | None, for_code(metavar="PASSES", help="Graph passes instead of the default ones: a,b{option=value}.", show_default=False)] = None
    winograd: Annotated[str, for_code(metavar="auto|off", help="off: convolutions by plain sums only, which round less.")] = "auto"
    integers: Annotated[str, for_code(metavar="auto|always", help="always: layers of quantized models are summed on integers even where floats give the same numbers and are modelled to be faster.")] = "auto"
    checks: flags.Checks = "trap"
    verify_each: Annotated[bool, for_code("--verify-each", help="Check the meaning of the graph after each pass.")] = False

    def tuned(self, target: Target) -> Tuning | None:
        """The measurements of --tuning. Raises: EdgeccError E006, E007."""
        return None if self.tuning is None else read_for(self.tuning, target)

    def options(self, base: api.Options, tuned: Tuning | None) -> api.Options:
        """`base` with these choices."""
        return replace(base, threads=self.threads, depth_first=self.depth_first, precision=self.precision, keep_fp32=self.keep_fp32 or (),
                       tuning=None if tuned is None else tuned.choices, passes=self.passes, winograd=self.winograd, integers=self.integers,
                       checks=self.checks, verify_each=self.verify_each)


def refuse_idle_precision(context: typer.Context, precision: str) -> None:
    """Raises E001 for nodes that keep fp32 where all do."""
    if precision == FP32:
        flags.refuse_given(context, {"keep_fp32"}, "without --precision fp16 or bf16")
