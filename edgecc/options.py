"""Things that are named in text with options, such as `tile{size=8,keep=true}`: dataclasses whose fields are the options."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from edgecc.errors import EdgeccError

Instance = TypeVar("Instance")


def split_names(text: str, what: str, code: str) -> tuple[tuple[str, dict[str, str]], ...]:
    """Reads `name,name{option=value,option=value} name`: names with the texts of their options, in order.

    Args:
        what: how messages call one of them, such as "pass"; code: that of the errors.
    Raises: EdgeccError of that code.
    """
    found = []
    rest = text.strip()
    while rest:
        end = next((i for i, c in enumerate(rest) if c in ",{} \t\n"), len(rest))
        name, rest = rest[:end], rest[end:].lstrip()
        if not name:
            raise EdgeccError(code, f"a {what} name was expected before {rest[:20]!r}",
                              hint="the syntax is name{option=value,option=value},name")
        options: dict[str, str] = {}
        if rest.startswith("{"):
            body, closed, rest = rest[1:].partition("}")
            if not closed:
                raise EdgeccError(code, f"the options of {what} {name} are not closed by '}}'")
            for item in filter(None, (part.strip() for part in body.split(","))):
                key, equals, value = item.partition("=")
                if not equals:
                    raise EdgeccError(code, f"option {item!r} of {what} {name} has no value; write {item}=VALUE")
                options[key.strip()] = value.strip()
        found.append((name, options))
        rest = rest.lstrip().removeprefix(",").lstrip()
    return tuple(found)


def construct(cls: type[Instance], options: Mapping[str, str], what: str, code: str) -> Instance:
    """An instance of a dataclass from the texts of some of its fields; a class that is none has no options.

    Args:
        what: how messages call it, such as "pass tile"; code: that of the errors.
    Raises: EdgeccError of that code for an unknown option or an ill-typed value.
    """
    fields = [spec.name for spec in dataclasses.fields(cls) if spec.init] if dataclasses.is_dataclass(cls) else []
    hints = typing.get_type_hints(cls) if options else {}
    values: dict[str, object] = {}
    for key, text in options.items():
        option = key.replace("-", "_")
        if option not in fields:
            raise EdgeccError(code, f"{what} has no option {key!r}",
                              hint=nearest(option, fields) or f"its options: {', '.join(fields) or 'none'}")
        try:
            values[option] = _value(text, hints[option])
        except ValueError as error:
            raise EdgeccError(code, f"option {key} of {what}: {error}") from None
    return cls(**values)


def options_of(cls: type[object]) -> tuple[tuple[str, str, str], ...]:
    """The options of a class as (name, type, default), for listings."""
    if not dataclasses.is_dataclass(cls):
        return ()
    hints = typing.get_type_hints(cls)
    return tuple((f.name, _type_name(hints[f.name]), "" if f.default is dataclasses.MISSING else option_text(f.default))
                 for f in dataclasses.fields(cls) if f.init)


def spelled(name: str, instance: object) -> str:
    """A name with the options of an instance that do not have their default values, as `split_names` reads it."""
    fields = dataclasses.fields(instance) if dataclasses.is_dataclass(instance) else ()
    shown = [f"{f.name}={option_text(getattr(instance, f.name))}" for f in fields if getattr(instance, f.name) != f.default]
    return name + (f"{{{','.join(shown)}}}" if shown else "")


def option_text(value: object) -> str:
    """The text of an option's value."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return "x".join(str(item) for item in value) if isinstance(value, tuple) else str(value)


def nearest(name: str, known: Sequence[str]) -> str:
    """The hint with the nearest known name, or ""."""
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else ""


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _value(text: str, hint: Any) -> object:
    """`text` as a value of the type `hint`. Raises ValueError with a sentence."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if text == "none" and type(None) in args:
            return None
        return _value(text, next(a for a in args if a is not type(None)))
    if origin is Literal:
        if text not in args:
            raise ValueError(f"{text!r} is not one of {', '.join(args)}")
        return text
    if origin is tuple:
        return tuple(_value(part, args[0]) for part in text.split("x"))
    if hint is bool:
        if text not in ("true", "false"):
            raise ValueError(f"{text!r} is neither true nor false")
        return text == "true"
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            raise ValueError(f"{text!r} is not {'an integer' if hint is int else 'a number'}") from None
    return text
