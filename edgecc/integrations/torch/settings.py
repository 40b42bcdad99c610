"""The options of the back end of torch.compile."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgecc.errors import EdgeccError, printable


@dataclass(frozen=True)
class Settings:
    """What `torch.compile(model, backend="edgecc", options={...})` takes.

    Attributes:
        fallback: what edgecc cannot compute runs in PyTorch, with a warning that says why; otherwise that is an error.
        threads: of a run; more than one needs a C compiler.
        cc: the C compiler to build with. Without it LLVM translates into this process, where one thread is enough.
        precision: "fp32", "fp16" or "bf16", as for `edgecc.compile`.
        cache: a folder that keeps compiled networks for other processes; none is kept without it.
        limit: so many networks are compiled of one graph, for different shapes and weights; then PyTorch runs it.
    """

    fallback: bool = True
    threads: int = 1
    cc: str | None = None
    precision: str = "fp32"
    cache: str | Path | None = None
    limit: int = 8

    @property
    def form(self) -> str:
        """What is compiled: an object that LLVM makes, or a library that a C compiler builds."""
        return "obj" if self.threads == 1 and self.cc is None else "lib"

    @staticmethod
    def of(options: Mapping[str, Any] | None) -> Settings:
        """Reads options. Raises: EdgeccError E001 for one that there is not."""
        known = [field.name for field in fields(Settings)]
        for name in options or {}:
            if name not in known:
                close = difflib.get_close_matches(str(name), known, n=1)
                raise EdgeccError("E001", f"torch.compile: edgecc has no option {printable(str(name))!r}",
                                  hint=f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}")
        return Settings(**(options or {}))
