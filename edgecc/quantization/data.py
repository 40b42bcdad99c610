"""Calibration data: arrays of an .npz file, a folder of such files, or a folder of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.ir.types import Array, DType
from edgecc.quantization.network import Network
from edgecc.quantization.observe import Sample
from edgecc.quantization.pictures import Preprocessing, picture, pillow

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
Ports = Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
Reader = Callable[[Path], Mapping[str, Array]]
"""Reads the arrays of an .npz file."""


@dataclass(frozen=True)
class CalibrationData:
    """Samples that are read when they are needed, so that memory does not grow with their number.

    Iterating gives each sample; it may be done several times. `together`: pictures in a sample, as the model's batch has.
    """

    files: tuple[Path, ...]
    counts: tuple[int, ...]
    ports: Ports
    preprocessing: Preprocessing | None
    read: Reader
    together: int = 1

    def __len__(self) -> int:
        return sum(self.counts) // self.together

    def __iter__(self) -> Iterator[Sample]:
        if self.preprocessing is not None:
            ((name, (dtype, (_, *shape))),) = self.ports.items()
            for start in range(0, len(self.files), self.together):
                batch = [picture(file, (1, *shape), self.preprocessing) for file in self.files[start:start + self.together]]
                yield {name: np.concatenate(batch).astype(dtype)}
            return
        for file, count in zip(self.files, self.counts, strict=True):
            arrays = self.read(file)
            for index in range(count):
                yield {name: _sample(arrays[name], shape, index).astype(dtype, copy=False)
                       for name, (dtype, shape) in self.ports.items()}


def open_data(path: Path, network: Network, preprocessing: Preprocessing, read: Reader, *, limit: int | None = None) -> CalibrationData:
    """Finds the samples at `path` for the inputs of a network, and checks that they fit.

    Args:
        path: an .npz file whose arrays are called like the inputs and hold one sample, or several along a first axis; or a
            folder of .npz files, or of pictures for a model with one image as its input. Folders inside of it count where it holds no file of these kinds itself.
        read: reads an .npz file.
        limit: take no more than so many samples.

    A model that takes several pictures at a time gets them in the order of their names; those that do not fill the last batch are left out.
    Raises: EdgeccError E007 where there is nothing usable, or arrays do not fit; E400 where pictures need Pillow.
    """
    ports = {}
    for value in network.model.graph.input:
        code, shape = network.types[value.name]
        ports[value.name] = (np.dtype(_numpy_of(code)), shape)
    where = printable(str(path))
    takes_pictures = len(ports) == 1 and all(len(shape) == 4 for _, shape in ports.values())
    files = _files(path, takes_pictures=takes_pictures)
    if files and files[0].suffix.lower() in PICTURES:
        if not takes_pictures:
            raise EdgeccError("E007", "pictures are for models with one input of rank 4", where=where,
                              hint="give an .npz file with an array for each input")
        pillow()
        ((_, (together, *_)),) = ports.values()
        whole = len(files) // max(1, together) if limit is None else min(limit, len(files) // max(1, together))
        if not whole:
            raise EdgeccError("E007", f"holds {len(files)} picture{'s' if len(files) != 1 else ''}, and the model takes {together} at a time", where=where)
        return CalibrationData(files[:whole * together], (1,) * (whole * together), ports, preprocessing, read, together)
    kept_files: list[Path] = []
    counts: list[int] = []
    for file in files:
        left = None if limit is None else limit - sum(counts)
        if left == 0:
            break
        count = _count(read(file), ports, printable(str(file)))
        kept_files.append(file)
        counts.append(count if left is None else min(count, left))
    if not sum(counts):
        raise EdgeccError("E007", "holds no calibration data", where=where,
                          hint="give an .npz file, or a folder of .npz files or of pictures")
    return CalibrationData(tuple(kept_files), tuple(counts), ports, None, read)


def _files(path: Path, *, takes_pictures: bool) -> tuple[Path, ...]:
    """The files that hold data: of one kind, that which the model takes first; hidden ones are none of the user's."""
    if not path.is_dir():
        if not path.exists():
            raise EdgeccError("E007", "does not exist", where=printable(str(path)))
        return (path,)
    kinds = (PICTURES, frozenset({".npz"}))
    for entries in (path.iterdir(), path.rglob("*")):
        visible = sorted(entry for entry in entries if not any(part.startswith(".") for part in entry.relative_to(path).parts) and entry.is_file())
        for kind in kinds if takes_pictures else reversed(kinds):
            found = tuple(entry for entry in visible if entry.suffix.lower() in kind)
            if found:
                return found
    return ()


def _numpy_of(code: int) -> np.dtype[Any]:
    found = DType.from_code(code)
    return found.numpy if found is not None else np.dtype(np.float32)


def _count(arrays: Mapping[str, Array], ports: Ports, where: str) -> int:
    """How many samples an .npz file holds."""
    counts = set()
    for name, (_, shape) in ports.items():
        if name not in arrays:
            raise EdgeccError("E007", f"has no array called {printable(name)!r}", where=where,
                              hint=f"the model's inputs are {', '.join(printable(n) for n in ports)}; the file holds {', '.join(printable(n) for n in list(arrays)[:8])}")
        if arrays[name].dtype.kind not in "biuf" and arrays[name].dtype != ports[name][0]:
            raise EdgeccError("E007", f"{printable(name)} holds {printable(str(arrays[name].dtype), 40)}, wanted {ports[name][0]}", where=where)
        counts.add(_samples(arrays[name].shape, shape, name, where))
        _check_numbers(arrays[name], ports[name][0], name, where)
    if len(counts) != 1:
        raise EdgeccError("E007", f"the arrays hold different numbers of samples: {sorted(counts)}", where=where)
    return counts.pop()


def _check_numbers(array: Array, wanted: np.dtype[Any], name: str, where: str) -> None:
    """Raises E007 for floats that say nothing about ranges. Minus infinity may: masks have it."""
    if array.dtype.kind != "f" or wanted.kind != "f" or not array.size:
        return
    largest = array.max()
    if np.isnan(largest):
        raise EdgeccError("E007", f"{printable(name)} holds numbers that are NaN", where=where)
    if largest > np.finfo(wanted).max:
        raise EdgeccError("E007", f"{printable(name)} holds {largest}, more than {wanted} has", where=where)


def _samples(given: tuple[int, ...], wanted: tuple[int, ...], name: str, where: str) -> int:
    if given == wanted:
        return 1
    if given[1:] == wanted:
        return given[0]
    if wanted and wanted[0] and given[1:] == wanted[1:] and given[0] % wanted[0] == 0:
        return given[0] // wanted[0]
    raise EdgeccError("E007", f"{printable(name)} has shape {list(given)}, wanted {list(wanted)}, or that many times along a first axis",
                      where=where, hint="sizes that the model leaves open are 1 unless --shape says more")


def _sample(array: Array, shape: tuple[int, ...], index: int) -> Array:
    if array.shape == shape:
        return array
    own = array[index] if array.shape[1:] == shape else array[index * shape[0]:(index + 1) * shape[0]]
    return np.ascontiguousarray(own).reshape(shape)
