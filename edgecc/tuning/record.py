"""The tuning file: for each kernel signature the candidates that were measured and the one that was quickest.

It is made to be committed beside a model: sorted, one kernel an object, times rounded to three digits, and nothing in it
depends on the day or the folder. Measured again without `--again` it stays as it is, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgecc.errors import EdgeccError, printable
from edgecc.files import read_text
from edgecc.targets.schema import Target

FORMAT = "edgecc-tuning"
VERSION = 1

TIE = 0.02
"""A candidate that is quicker than the model's choice by less than this share does not replace it."""

RESOLUTION_SECONDS = 20e-9
"""Nor does one that is quicker by less than this: counters that tick every 10 ns, or every 40, tell no more."""


@dataclass(frozen=True)
class Record:
    """One kernel signature.

    Attributes:
        signature: of the request (edgecc/kernels/request.py). op: the operator's name.
        shapes: of operands and results, for readers: "f32[1,32,8,8]".
        chosen: the name of a candidate.
        seconds: quickest execution by candidate, those the model thinks cheaper first.
    """

    signature: str
    op: str
    shapes: tuple[str, ...]
    chosen: str
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Tuning:
    """The content of a tuning file.

    Attributes:
        target: the name of what it was measured for. features: instruction sets of that target.
        processor: what it was measured on, for readers. compiler: the C compiler's version.
        records: by signature.
    """

    target: str
    features: tuple[str, ...]
    processor: str
    compiler: str
    records: Mapping[str, Record]

    @property
    def choices(self) -> dict[str, str]:
        """Names of candidates by signature, as lowering takes them."""
        return {signature: record.chosen for signature, record in self.records.items()}

    def with_records(self, records: Iterable[Record]) -> Tuning:
        """The same with further records, which replace those of equal signatures."""
        return replace(self, records={**self.records, **{record.signature: record for record in records}})

    def fits(self, target: Target) -> bool:
        """Whether it was measured for this target."""
        return (self.target, self.features) == (target.name, features_of(target))

    def to_json(self) -> str:
        """The content of the file."""
        table = {"format": FORMAT, "version": VERSION, "target": self.target, "features": list(self.features),
                 "processor": self.processor, "compiler": self.compiler,
                 "kernels": [_record_table(self.records[signature]) for signature in sorted(self.records)]}
        return json.dumps(table, indent=1) + "\n"


def new_tuning(target: Target, processor: str, compiler: str) -> Tuning:
    """A tuning without records."""
    return Tuning(target.name, features_of(target), processor, compiler, {})


def features_of(target: Target) -> tuple[str, ...]:
    """What makes code of one target wrong for another: architecture and instruction sets."""
    return (target.architecture, *sorted(target.isa.features))


def choose(seconds: Mapping[str, float]) -> str:
    """The quickest candidate; the first one where no other is clearly quicker."""
    first = next(iter(seconds))
    best = min(seconds, key=lambda name: seconds[name])
    return best if seconds[first] - seconds[best] > max(TIE * seconds[first], RESOLUTION_SECONDS) else first


def read_tuning(path: Path) -> Tuning:
    """Reads a tuning file.

    Raises: EdgeccError E007 where it is none, or of another version.
    """
    where = printable(str(path))
    try:
        table = json.loads(read_text(path))
    except OSError as error:
        raise EdgeccError("E007", f"cannot be read: {error.strerror or error}", where=where) from None
    except UnicodeDecodeError:
        raise EdgeccError("E007", "no tuning file: not a text", where=where) from None
    except (ValueError, RecursionError) as error:
        raise EdgeccError("E007", f"no tuning file: {printable(str(error), 80)}", where=where) from None
    try:
        if table["format"] != FORMAT:
            raise KeyError("format")
        if table["version"] != VERSION:
            raise EdgeccError("E007", f"tuning file of version {table['version']!r}; this version reads {VERSION}", where=where,
                              hint="`edgecc tune` writes a new one")
        records = [_record_from(entry) for entry in table["kernels"]]
        return Tuning(str(table["target"]), tuple(str(f) for f in table["features"]), str(table["processor"]),
                      str(table["compiler"]), {record.signature: record for record in records})
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise EdgeccError("E007", f"no tuning file ({type(error).__name__}: {printable(str(error), 80)})", where=where) from None


def read_for(path: Path, target: Target) -> Tuning:
    """Reads a tuning file that is to be used for `target`.

    Raises: EdgeccError E007; E008 where it was measured for another target.
    """
    tuning = read_tuning(path)
    if not tuning.fits(target):
        raise EdgeccError("E008", f"measured for {printable(tuning.target)} ({printable(', '.join(tuning.features))}), "
                          f"not for {target.name} ({', '.join(features_of(target))})", where=printable(str(path)),
                          hint="`edgecc tune` measures for this target")
    return tuning


def _record_table(record: Record) -> dict[str, Any]:
    return {"signature": record.signature, "op": record.op, "shapes": list(record.shapes), "chosen": record.chosen,
            "microseconds": {name: float(f"{seconds * 1e6:.3g}") for name, seconds in record.seconds.items()}}


def _record_from(entry: Mapping[str, Any]) -> Record:
    seconds = {str(name): float(value) * 1e-6 for name, value in entry["microseconds"].items()}
    return Record(str(entry["signature"]), str(entry["op"]), tuple(str(s) for s in entry["shapes"]), str(entry["chosen"]), seconds)
