"""What a name of an ONNX model may stand for while the model is converted."""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.ir.graph import Value


@dataclass(frozen=True)
class TensorSequence:
    """An ONNX sequence whose length is known: it exists only while importing."""

    items: tuple[Value, ...]


@dataclass(frozen=True)
class StackedSequence:
    """An ONNX sequence of as many tensors of one type as a loop had iterations: `rows` [length, ..]."""

    rows: Value


@dataclass(frozen=True)
class KeyedColumns:
    """A sequence of maps from keys to numbers, one map for each row: the numbers [rows, keys], and the keys of the columns."""

    keys: tuple[int | str, ...]
    values: Value


@dataclass(frozen=True)
class Missing:
    """An ONNX optional that holds nothing."""


@dataclass(frozen=True)
class Unknown:
    """A result of a node that could not be converted.

    Of nodes that read it only the operator is looked up, so that every unsupported one is found at once.
    """


@dataclass(frozen=True)
class Refused:
    """A result or a weight that edgecc cannot compile, which matters only if something reads it."""

    loc: tuple[str, ...]
    op: str
    reason: str
    hint: str = ""


Item = Value | TensorSequence | StackedSequence | KeyedColumns | Missing | Unknown | Refused
