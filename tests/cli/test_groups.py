"""Groups of flags: what Typer sees of them, and what becomes of their values."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated

import pytest
import typer

from edgecc import api
from edgecc.cli import compiling, quantizing
from edgecc.cli.groups import names_of, takes_groups
from edgecc.quantization.scheme import Scheme


@dataclasses.dataclass(frozen=True)
class Pair:
    left: Annotated[int, typer.Option(help="The left one.")] = 1
    right: int = 2


@takes_groups
def command(first: int, *, pair: Pair, last: str = "z") -> tuple[int, Pair, str]:
    """What it does."""
    return first, pair, last


def test_fields_stand_where_the_group_did():
    parameters = inspect.signature(command).parameters
    assert list(parameters) == ["first", "left", "right", "last"] and command.__doc__ == "What it does."
    assert [parameter.default for parameter in parameters.values()] == [inspect.Parameter.empty, 1, 2, "z"]
    assert parameters["left"].annotation.__metadata__[0].help == "The left one." and command.__annotations__["right"] is int
    assert command(first=0, left=5, right=6, last="a") == (0, Pair(5, 6), "a")


@pytest.mark.parametrize(("name", "value"), [
    ("threads", 3), ("depth_first", "off"), ("precision", "fp16"), ("keep_fp32", ["a"]), ("passes", "eliminate"), ("winograd", "off"),
    ("integers", "always"), ("checks", "clamp"), ("verify_each", True)])
def test_flags_of_code_become_options(name, value):
    base = api.Options(name="kept")
    made = compiling.Code(**{name: value}).options(base, None)
    assert made == dataclasses.replace(base, **{name: value}) and made != base


def test_every_flag_of_code_is_an_option():
    assert names_of(compiling.Code) <= {field.name for field in dataclasses.fields(api.Options)}


def test_flags_of_a_quantization_become_a_scheme():
    given = quantizing.Options(percentile=99.0, symmetric=True, per_tensor=True, equalize=True, bias_correction=False, adaptive_rounding=True,
                               exclude=["a"], wide=["b"])
    assert given.scheme("int16", "percentile") == Scheme("int16", True, False, "percentile", 99.0, True, False, True, frozenset("a"), frozenset("b"))
    assert quantizing.Options().scheme("int8", "mse") == Scheme()
