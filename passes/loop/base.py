"""What a loop pass is, and how a schedule applies a sequence of them to a kernel.

A loop pass is a frozen dataclass: its fields are its options, its docstring draws before -> after and
says what it takes for granted. A schedule names passes with options, such as
`tile{loop=pixel,factor=8}`; it is data, so a kernel can state one, a tuner can replace it, and a
file can hold it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from edgecc.errors import EdgeccError
from edgecc.loop.ir import Body, Function
from edgecc.loop.rewrite import distinct_locals

_TABLE: dict[str, type[LoopPass]] = {}


@dataclass(frozen=True)
class LoopPass:
    """A rewrite of one kernel. Subclasses set `name` and define `rewrite`; they are registered by definition."""

    name: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        other = _TABLE.get(cls.name)
        if other is not None and other.__qualname__ != cls.__qualname__:
            raise TypeError(f"loop pass {cls.name!r} is defined by {other.__module__} and {cls.__module__}")
        _TABLE[cls.name] = cls

    def rewrite(self, body: Body, function: Function) -> Body:
        """Returns the new body of `function`, whose body is `body`."""
        raise NotImplementedError

    def run(self, function: Function) -> Function:
        """Returns `function` with its body rewritten."""
        return replace(function, body=self.rewrite(function.body, function))


LOOP_PASSES: Mapping[str, type[LoopPass]] = MappingProxyType(_TABLE)
"""Every loop pass by name. Filled while edgecc.passes.loop is imported, constant afterwards."""

_SPEC = re.compile(r"^(?P<name>[a-z0-9-]+)(?:\{(?P<options>[^{}]*)\})?$")


def parse_loop_pass(text: str) -> LoopPass:
    """Builds the pass that `name{option=value,...}` describes.

    Raises: EdgeccError E004 for an unknown name, option or value.
    """
    match = _SPEC.match(text)
    cls = _TABLE.get(match["name"]) if match else None
    if match is None or cls is None:
        raise EdgeccError("E004", f"no loop pass {text!r}", hint=f"there are {', '.join(sorted(_TABLE))}")
    types = {field.name: field.type for field in dataclasses.fields(cls)}
    options: dict[str, str | int] = {}
    for part in filter(None, (match["options"] or "").split(",")):
        key, _, value = part.partition("=")
        if key not in types:
            raise EdgeccError("E004", f"loop pass {cls.name} has no option {key!r}", hint=f"it has {', '.join(types)}")
        options[key] = int(value) if types[key] == "int" else value
    try:
        return cls(**options)
    except TypeError:
        raise EdgeccError("E004", f"loop pass {cls.name} needs {', '.join(types)}, got {text!r}") from None


def apply_schedule(function: Function, schedule: Iterable[str]) -> Function:
    """Runs the passes of a schedule over a kernel, in order, and makes the names of locals distinct."""
    for step in schedule:
        function = parse_loop_pass(step).run(function)
    return replace(function, body=distinct_locals(function.body))
