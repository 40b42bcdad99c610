"""What a target says of its accelerator."""

from __future__ import annotations

from edgecc.options import split_names
from edgecc.targets.schema import Target


def option_of_target(target: Target, backend: str, option: str) -> str:
    """An option that a target's [npu] gives a back end; "" where it has no accelerator, or one of another back end."""
    if target.npu is None:
        return ""
    ((name, options),) = split_names(target.npu.backend, "back end", "E003")
    return options.get(option, "") if name == backend else ""
