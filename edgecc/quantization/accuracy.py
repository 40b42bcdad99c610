"""How good the results of a model are: a score for each sample, and its mean.

    agreement   1 where the class with the highest number is the label, else 0; without labels, the float model's own class counts.
                Models that take several samples at a time have a row of classes for each, and the share of their rows is their score
    metric      a function of the user: metric(outputs, float outputs, label) -> a number, more is better
"""

from __future__ import annotations

import csv
import importlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.files import read_text
from edgecc.ir.types import Array

Outputs = Mapping[str, Array]
Label = int | Sequence[int]
"""The class of a sample, or those of its rows."""
Metric = Callable[[Outputs, Outputs, Label | None], float]
"""The score of one sample from the outputs, those of the float model, and the sample's label where there are labels."""


@dataclass(frozen=True)
class Goal:
    """What a quantized model must reach.

    Attributes:
        least_ratio: decibels of signal to noise at every output, or None.
        most_drop: how much the mean score may fall below the float model's, or None. Scores of `top_class` are shares of 1.
        labels: the class of each sample in order, or None. metric: see the module.
        finish: what makes of a sample and the outputs of the network those of the whole model, which the metric looks at, where they differ.
    """

    least_ratio: float | None = None
    most_drop: float | None = None
    labels: Sequence[Label] | None = None
    metric: Metric | None = None
    finish: Callable[[Outputs, Outputs], Outputs] | None = None


NO_GOAL = Goal()


def top_class(outputs: Outputs, reference: Outputs, label: Label | None) -> float:
    """The share of rows of the first output whose largest element is the label's (without one: the float model's)."""
    name = next(iter(reference))
    rows = class_rows(reference[name].shape) or 1
    best = outputs[name].reshape(rows, -1).argmax(axis=1)
    wanted = reference[name].reshape(rows, -1).argmax(axis=1) if label is None else np.asarray(label)
    return float((best == wanted).mean())


def class_rows(shape: Sequence[int]) -> int:
    """How many rows of classes an output has: 0 where it does not hold numbers of classes."""
    rows, rest = (shape[0], shape[1:]) if len(shape) > 1 else (1, shape)
    classes = math.prod(rest)
    return rows if classes > 1 and classes == max(rest) else 0


def check_classes(shape: Sequence[int]) -> None:
    """Raises EdgeccError E001 where the first output, of this shape, says nothing of classes."""
    if not class_rows(shape):
        raise EdgeccError("E001", f"the first output has shape {list(shape)}, which is no row of classes of which one could be right", where="--max-accuracy-drop",
                          hint="say with --metric what is right, or ask for --min-sqnr")


def labels_of(classes: Sequence[int], rows: int) -> Sequence[Label]:
    """The label of each sample, of `rows` rows, from the classes of all rows."""
    return classes if rows == 1 else [tuple(classes[start:start + rows]) for start in range(0, len(classes), rows)]


def metric_named(text: str) -> Metric:
    """The function that "package.module:name" means.

    Raises: EdgeccError E001 where there is none.
    """
    module, _, name = text.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise EdgeccError("E001", f"cannot import {printable(text)!r}: {printable(str(error), 120)}", where="--metric",
                          hint="write package.module:function; the module must be on PYTHONPATH") from None
    if not callable(found):
        raise EdgeccError("E001", f"{printable(text)!r} is no function", where="--metric")

    def metric(outputs: Outputs, reference: Outputs, label: Label | None) -> float:
        return float(found(outputs, reference, label))

    return metric


def read_labels(path: Path, names: Sequence[str] | None, count: int, offset: int = 0) -> tuple[int, ...]:
    """The class of each sample.

    Args:
        path: a .csv file with a header, whose first column has file names and whose column "class", "label" or "class_index" (else
            the second one) has numbers; or a text file with one number a line, in the order of the samples.
        names: file names of the samples, where they are files; only then a .csv file is understood.
        offset: added to every number (models with a class for the background begin at 1).
    Raises: EdgeccError E007 where the file does not fit.
    """
    where = printable(str(path))
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise EdgeccError("E007", f"cannot be read: {printable(str(error), 80)}", where=where) from None
    try:
        found = _by_name(text, names, where) if path.suffix.lower() == ".csv" else [int(line) for line in text.split()]
    except ValueError as error:
        raise EdgeccError("E007", f"a class is no number: {printable(str(error), 80)}", where=where) from None
    if len(found) < count:
        raise EdgeccError("E007", f"has {len(found)} classes for {count} samples", where=where)
    return tuple(number + offset for number in found[:count])


def _by_name(text: str, names: Sequence[str] | None, where: str) -> list[int]:
    if names is None:
        raise EdgeccError("E007", "names files, and the samples are no files of their own", where=where,
                          hint="give a text file with one class a line")
    rows = list(csv.reader(io.StringIO(text)))
    header = rows[0] if rows else []
    column = next((header.index(name) for name in ("class", "label", "class_index") if name in header), 1)
    table = {row[0]: int(row[column]) for row in rows[1:] if len(row) > column}
    missing = [name for name in names if name not in table]
    if missing:
        raise EdgeccError("E007", f"has no line for {printable(missing[0])!r}", where=where)
    return [table[name] for name in names]
