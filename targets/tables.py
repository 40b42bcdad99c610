"""Tables of TOML as frozen dataclasses and back, with errors that name file, table and key."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from edgecc.errors import EdgeccError, printable


def build(cls: type[Any], table: Mapping[str, Any], file: str, where: str) -> Any:
    """An instance of the dataclass `cls` from a TOML table; a field's metadata may name another key.

    Args: file, where: the file and its table, for messages.
    Raises: EdgeccError E003 for a key too many, a key too few, or a value of another type than the field's.
    """
    hints = typing.get_type_hints(cls)
    by_key = {f.metadata.get("key", f.name): f for f in dataclasses.fields(cls)}
    for key in table:
        if key not in by_key:
            raise bad(file, where, f"unknown key {printable(key)!r}", did_you_mean(key, by_key))
    values = {}
    for key, spec in by_key.items():
        if key in table:
            values[spec.name] = _convert(hints[spec.name], table[key], file, where, key)
        elif spec.default is dataclasses.MISSING:
            raise bad(file, where, f"missing key {key!r}")
    return cls(**values)


def _convert(hint: Any, value: Any, file: str, where: str, key: str) -> Any:
    """`value` as the annotated type `hint`, or E003."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:  # `X | None`: TOML has no null, so a value that is present is an X
        return _convert(args[0], value, file, where, key)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise bad(file, where, f"key {key!r} wants a table, got {kind_of(value)}")
        return build(hint, value, file, f"[{key}]")
    if origin is tuple:
        if not isinstance(value, list):
            raise bad(file, where, f"key {key!r} wants a list, got {kind_of(value)}")
        if isinstance(args[0], type) and dataclasses.is_dataclass(args[0]):
            for index, item in enumerate(value):
                if not isinstance(item, dict):
                    raise bad(file, f"[[{key}]] #{index}", f"wants a table, got {kind_of(item)}")
            return tuple(build(args[0], item, file, f"[[{key}]] #{index}") for index, item in enumerate(value))
        return tuple(_convert(args[0], item, file, where, f"{key}[{index}]") for index, item in enumerate(value))
    accepted = (int, float) if hint is float else (hint,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise bad(file, where, f"key {key!r} wants {_NAMES[hint]}, got {kind_of(value)}")
    return hint(value)


_NAMES = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def kind_of(value: Any) -> str:
    """What a value of a file is, for messages."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return f"{_NAMES.get(type(value), type(value).__name__)} ({printable(repr(value), 40)})"


def plain(value: Any) -> Any:
    """Dataclasses as tables and tuples as lists, all the way down; TOML and JSON know nothing else."""
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    pairs = ((spec.metadata.get("key", spec.name), getattr(value, spec.name)) for spec in dataclasses.fields(value))
    return {key: plain(item) for key, item in pairs if item is not None}


def overlay(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of `over` laid over those of `base` key by key; anything else replaces what was there."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = overlay(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def bad(file: str, table: str, message: str, hint: str = "") -> EdgeccError:
    """The error E003 about a table of a file ("" for the file as a whole)."""
    return EdgeccError("E003", message, where=f"{printable(file)}{': ' + table if table else ''}", hint=hint)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest of the known words; "" where none is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else ""
