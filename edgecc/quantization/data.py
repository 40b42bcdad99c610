"""Calibration data: arrays of an .npz file, a folder of such files, or a folder of pictures."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.ir.types import Array, DType
from edgecc.quantization.network import Network
from edgecc.quantization.observe import Sample

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
MOST_PIXELS = 1 << 26
"""A damaged file may say anything of its size."""
FITS = ("stretch", "crop", "pad")
CHANNELS = ("rgb", "bgr", "gray")
Ports = Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
Reader = Callable[[Path], Mapping[str, Array]]
"""Reads the arrays of an .npz file."""


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the model's input: scaled, cut, its channels ordered, then (x - mean) / std for x in 0..255.

    Attributes:
        fit: "crop" scales the shorter side to `resize` (by default to the input's size) and cuts the middle out,
            "stretch" scales both sides, "pad" scales the longer side and fills with gray 114 around.
        resize: pixels of the shorter side before cutting.
        channels: "rgb", "bgr" or "gray". mean, std: one number, or one for each channel.
        layout: "nchw" or "nhwc", the model's input.
    """

    fit: str = "crop"
    resize: int | None = None
    channels: str = "rgb"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (255.0,)
    layout: str = "nchw"

    def __post_init__(self) -> None:
        for what, value, known in (("fit", self.fit, FITS), ("channels", self.channels, CHANNELS), ("layout", self.layout, ("nchw", "nhwc"))):
            if value not in known:
                raise EdgeccError("E001", f"{what} {printable(value)!r} is not one of {', '.join(known)}")
        count = 1 if self.channels == "gray" else 3
        for what, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, count):
                raise EdgeccError("E001", f"{what} has {len(values)} numbers, wanted 1 or {count}")
        if any(not value > 0 for value in self.std):
            raise EdgeccError("E001", "std must be above 0")
        if self.resize is not None and self.resize < 1:
            raise EdgeccError("E001", f"resize is {self.resize}, wanted at least 1")


def parse_preprocessing(text: str) -> Preprocessing:
    """Reads "fit=crop,resize=256,channels=rgb,mean=127.5,std=127.5"; numbers for each channel have slashes between them.

    Raises: EdgeccError E001.
    """
    values: dict[str, Any] = {}
    known = [field.name for field in dataclasses.fields(Preprocessing)]
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        if name not in known or name in values:
            raise EdgeccError("E001", f"{printable(part)!r} is not understood", where="--pictures",
                              hint=f"write {', '.join(f'{n}=...' for n in known)}, with commas between them")
        try:
            values[name] = (int(value) if name == "resize" else tuple(float(v) for v in value.split("/")) if name in ("mean", "std")
                            else value)
        except ValueError:
            raise EdgeccError("E001", f"{printable(part)!r}: {printable(value)!r} is no number", where="--pictures") from None
    return Preprocessing(**values)


@dataclass(frozen=True)
class CalibrationData:
    """Samples that are read when they are needed, so that memory does not grow with their number.

    Iterating gives each sample; it may be done several times.
    """

    files: tuple[Path, ...]
    counts: tuple[int, ...]
    ports: Ports
    preprocessing: Preprocessing | None
    read: Reader

    def __len__(self) -> int:
        return sum(self.counts)

    def __iter__(self) -> Iterator[Sample]:
        for file, count in zip(self.files, self.counts, strict=True):
            if self.preprocessing is not None:
                ((name, (dtype, shape)),) = self.ports.items()
                yield {name: picture(file, shape, self.preprocessing).astype(dtype)}
                continue
            arrays = self.read(file)
            for index in range(count):
                yield {name: _sample(arrays[name], shape, index).astype(dtype, copy=False)
                       for name, (dtype, shape) in self.ports.items()}


def open_data(path: Path, network: Network, preprocessing: Preprocessing, read: Reader, *, limit: int | None = None) -> CalibrationData:
    """Finds the samples at `path` for the inputs of a network, and checks that they fit.

    Args:
        path: an .npz file whose arrays are called like the inputs and hold one sample, or several along a first axis; or a
            folder of .npz files, or of pictures for a model with one image as its input.
        read: reads an .npz file.
        limit: take no more than so many samples.
    Raises: EdgeccError E007 where there is nothing usable, or arrays do not fit; E400 where pictures need Pillow.
    """
    ports = {}
    for value in network.model.graph.input:
        code, shape = network.types[value.name]
        ports[value.name] = (np.dtype(_numpy_of(code)), shape)
    where = printable(str(path))
    files = _files(path)
    if files and files[0].suffix.lower() in PICTURES:
        if len(ports) != 1 or any(len(shape) != 4 for _, shape in ports.values()):
            raise EdgeccError("E007", "pictures are for models with one input of rank 4", where=where,
                              hint="give an .npz file with an array for each input")
        _pillow()
        kept = files[:limit]
        return CalibrationData(kept, (1,) * len(kept), ports, preprocessing, read)
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


def _files(path: Path) -> tuple[Path, ...]:
    if not path.is_dir():
        if not path.exists():
            raise EdgeccError("E007", "does not exist", where=printable(str(path)))
        return (path,)
    entries = sorted(entry for entry in path.iterdir() if entry.is_file())
    pictures = tuple(entry for entry in entries if entry.suffix.lower() in PICTURES)
    return pictures or tuple(entry for entry in entries if entry.suffix == ".npz")


def _numpy_of(code: int) -> np.dtype[Any]:
    found = DType.from_code(code)
    return found.numpy if found is not None else np.dtype(np.float32)


def _count(arrays: Mapping[str, Array], ports: Ports, where: str) -> int:
    """How many samples an .npz file holds."""
    counts = set()
    for name, (_, shape) in ports.items():
        if name not in arrays:
            raise EdgeccError("E007", f"has no array called {printable(name)!r}", where=where,
                              hint=f"the model's inputs are {', '.join(printable(n) for n in ports)}")
        if arrays[name].dtype.kind not in "biuf" and arrays[name].dtype != ports[name][0]:
            raise EdgeccError("E007", f"{printable(name)} holds {printable(str(arrays[name].dtype), 40)}, wanted {ports[name][0]}", where=where)
        counts.add(_samples(arrays[name].shape, shape, name, where))
    if len(counts) != 1:
        raise EdgeccError("E007", f"the arrays hold different numbers of samples: {sorted(counts)}", where=where)
    return counts.pop()


def _samples(given: tuple[int, ...], wanted: tuple[int, ...], name: str, where: str) -> int:
    if given == wanted:
        return 1
    if given[1:] == wanted:
        return given[0]
    if wanted and wanted[0] == 1 and given[1:] == wanted[1:]:
        return given[0]
    raise EdgeccError("E007", f"{printable(name)} has shape {list(given)}, wanted {list(wanted)}, or that many times along a first axis",
                      where=where)


def _sample(array: Array, shape: tuple[int, ...], index: int) -> Array:
    return array if array.shape == shape else np.ascontiguousarray(array[index]).reshape(shape)


# -- pictures ---------------------------------------------------------------------------------


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise EdgeccError("E400", "pictures are read by Pillow, which is not installed", hint="pip install pillow") from None
    return Image


def picture(file: Path, shape: Sequence[int], how: Preprocessing) -> Array:
    """A picture as a float32 array of a model's input shape, batch 1.

    Raises: EdgeccError E007 where the file is no picture, or the shape does not fit.
    """
    image_module = _pillow()
    where = printable(str(file))
    channels, height, width = (shape[1], *shape[2:]) if how.layout == "nchw" else (shape[3], *shape[1:3])
    if shape[0] != 1 or channels != (1 if how.channels == "gray" else 3):
        raise EdgeccError("E007", f"an input of shape {list(shape)} does not take a picture in {how.channels}, {how.layout}, batch 1",
                          where=where)
    try:
        with image_module.open(file) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise EdgeccError("E007", f"a picture of {opened.width} x {opened.height} pixels; at most are {MOST_PIXELS}", where=where)
            image = opened.convert("L" if how.channels == "gray" else "RGB")
    except (OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, SyntaxError, struct.error,
            image_module.DecompressionBombError) as error:  # what Pillow raises for damaged files of one format or another
        raise EdgeccError("E007", f"cannot be read as a picture: {printable(str(error), 80)}", where=where) from None
    values: Array = np.asarray(_fitted(image, width, height, how, image_module), np.float32)
    values = values[..., np.newaxis] if values.ndim == 2 else values
    values = values[..., ::-1] if how.channels == "bgr" else values
    values = (values - np.asarray(how.mean, np.float32)) / np.asarray(how.std, np.float32)
    values = np.moveaxis(values, -1, 0) if how.layout == "nchw" else values
    return np.ascontiguousarray(values[np.newaxis], np.float32)


def _fitted(image: Any, width: int, height: int, how: Preprocessing, module: Any) -> Any:
    bilinear = module.Resampling.BILINEAR
    if how.fit == "stretch":
        return image.resize((width, height), bilinear)
    if how.fit == "pad":
        ratio = min(width / image.width, height / image.height)
        inner = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
        canvas = module.new(image.mode, (width, height), 114 if image.mode == "L" else (114, 114, 114))
        canvas.paste(image.resize(inner, bilinear), ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return canvas
    ratio = max(width / image.width, height / image.height) if how.resize is None else how.resize / min(image.width, image.height)
    size = (max(width, round(image.width * ratio)), max(height, round(image.height * ratio)))
    if size != (image.width, image.height):
        image = image.resize(size, bilinear)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
