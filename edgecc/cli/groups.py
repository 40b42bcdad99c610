"""Groups of flags that several commands have: dataclasses whose fields become flags of a command.

    @dataclass(frozen=True)
    class Sizes:
        shape: Annotated[list[str] | None, typer.Option(help="...")] = None

    @app.command()
    @takes_groups
    def check(model: Model, sizes: Sizes, as_json: AsJson = False) -> int: ...

gives `check` the flags --shape and --json. A name of a field is the name of the command's parameter, as for `refuse_given`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

Result = TypeVar("Result")


def takes_groups(command: Callable[..., Result]) -> Callable[..., Result]:
    """The command with a parameter for each field of its groups, where these stand; what Typer reads of it says so."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind) and isinstance(kind, type)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            parameters += _parameters(groups[name])
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))

    @functools.wraps(command)
    def flat(**given: Any) -> Result:
        made = {name: kind(**{each: given.pop(each) for each in names_of(kind)}) for name, kind in groups.items()}
        return command(**given, **made)

    signature = inspect.Signature(parameters, return_annotation=hints.get("return"))
    vars(flat).update(__signature__=signature)
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": signature.return_annotation}
    return flat


def names_of(group: type[Any]) -> frozenset[str]:
    """The names of a group's fields."""
    return frozenset(field.name for field in dataclasses.fields(group))


def _parameters(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
            for field in dataclasses.fields(group)]
