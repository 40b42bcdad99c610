"""The table of converters: which function turns an ONNX operator of a given version into core operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from edgecc.frontend.call import Call
    from edgecc.frontend.items import Item
    from edgecc.ir.graph import Value

Converter: TypeAlias = "Callable[[Call], Item | Sequence[Item | None] | None]"


class Unsupported(Exception):
    """A node, or something it uses, that edgecc does not compile. Collected and reported as one E105.

    Attributes:
        reason: why, as a clause: "mode 'reflect' is not compiled".
        hint: what to change in the model, or "".
        needs: values that are computed at run time; were they constants, there would be no problem.
    """

    def __init__(self, reason: str, hint: str = "", needs: Sequence[Value] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.needs = tuple(needs)


class Undecided(Exception):
    """A node cannot be converted because another one was not: there is nothing new to report."""


@dataclass(frozen=True)
class Entry:
    """A converter and the versions of the operator's domain it is right for, both inclusive."""

    convert: Converter
    since: int
    until: int | None


_TABLE: dict[tuple[str, str], tuple[Entry, ...]] = {}
CONVERTERS: Mapping[tuple[str, str], tuple[Entry, ...]] = MappingProxyType(_TABLE)
"""Entries by (domain, operator); filled while edgecc.frontend.converters is imported, constant afterwards."""


def converter(*op_types: str, domain: str = "", since: int = 1, until: int | None = None) -> Callable[[Converter], Converter]:
    """Registers a function as the converter of the named operators from version `since` to `until` of their domain.

    The function returns the node's result, or a sequence with one entry per result (None for one that
    cannot be named); it raises `Unsupported`, or EdgeccError for a node that is wrong.
    """

    def decorate(function: Converter) -> Converter:
        for op_type in op_types:
            entries = _TABLE.get((domain, op_type), ())
            for entry in entries:
                if (entry.until is None or entry.until >= since) and (until is None or until >= entry.since):
                    raise TypeError(f"two converters for {domain or 'ai.onnx'}.{op_type}")
            _TABLE[domain, op_type] = (*entries, Entry(function, since, until))
        return function

    return decorate


def find(domain: str, op_type: str, version: int) -> Converter | None:
    """The converter for an operator in a version of its domain, or None."""
    for entry in _TABLE.get((domain, op_type), ()):
        if entry.since <= version and (entry.until is None or version <= entry.until):
            return entry.convert
    return None
