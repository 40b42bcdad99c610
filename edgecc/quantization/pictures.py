"""Pictures as inputs of a model: what preprocessing they get, and reading them by Pillow."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.files import open_plain
from edgecc.ir.types import Array

MOST_PIXELS = 1 << 26
"""A damaged file may say anything of its size."""
FITS = ("stretch", "crop", "pad")
CHANNELS = ("rgb", "bgr", "gray")


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the model's input: scaled, cut, its channels ordered, then (x - mean) / std for x in 0..255.

    Attributes:
        fit: "crop" scales the shorter side to `resize` (by default, and at least, so that the picture covers the input) and cuts the middle out,
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


def pillow() -> Any:
    """Pillow's module of pictures; importing it here leaves Pillow optional."""
    try:
        from PIL import Image
    except ImportError:
        raise EdgeccError("E400", "pictures are read by Pillow, which is not installed", hint="pip install pillow") from None
    return Image


def picture(file: Path, shape: Sequence[int], how: Preprocessing) -> Array:
    """A picture as a float32 array of a model's input shape, batch 1, upright as its EXIF data says.

    Raises: EdgeccError E007 where the file is no picture, or the shape does not fit.
    """
    image_module = pillow()
    from PIL import ImageOps as image_ops

    where = printable(str(file))
    channels, height, width = (shape[1], *shape[2:]) if how.layout == "nchw" else (shape[3], *shape[1:3])
    if shape[0] != 1 or channels != (1 if how.channels == "gray" else 3):
        fits = [f"layout={layout},channels={named}" for layout, count in (("nchw", shape[1]), ("nhwc", shape[3])) for named in CHANNELS
                if count == (1 if named == "gray" else 3)]
        raise EdgeccError("E007", f"an input of shape {list(shape)} does not take a picture in {how.channels}, {how.layout}, batch 1",
                          where=where, hint=f"--pictures {' or '.join(fits)} fits" if fits else "")
    try:
        with open_plain(file) as data, image_module.open(data) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise EdgeccError("E007", f"a picture of {opened.width} x {opened.height} pixels; at most are {MOST_PIXELS}", where=where)
            image = _in_bytes(image_ops.exif_transpose(opened), where).convert("L" if how.channels == "gray" else "RGB")
    except image_module.UnidentifiedImageError:
        raise EdgeccError("E007", "holds no picture of a format that Pillow reads", where=where) from None
    except (OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, SyntaxError, struct.error,
            image_module.DecompressionBombError) as error:  # what Pillow raises for damaged files of one format or another
        raise EdgeccError("E007", f"cannot be read as a picture: {printable(str(error), 80)}", where=where) from None
    values: Array = np.asarray(_fitted(image, width, height, how, image_module), np.float32)
    values = values[..., np.newaxis] if values.ndim == 2 else values
    values = values[..., ::-1] if how.channels == "bgr" else values
    values = (values - np.asarray(how.mean, np.float32)) / np.asarray(how.std, np.float32)
    values = np.moveaxis(values, -1, 0) if how.layout == "nchw" else values
    return np.ascontiguousarray(values[np.newaxis], np.float32)


def _in_bytes(image: Any, where: str) -> Any:
    """A picture of 16 bits with the upper 8 of them, which Pillow's own conversion would cut off at 255; others as they are."""
    if image.mode == "F":
        raise EdgeccError("E007", "a picture of floats, whose range is not known", where=where, hint="give it in 8 or 16 bits, or as an array in an .npz file")
    if not image.mode.startswith("I"):
        return image
    return pillow().fromarray(np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8))


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
    ratio = max(width / image.width, height / image.height, 0 if how.resize is None else how.resize / min(image.width, image.height))
    size = (max(width, round(image.width * ratio)), max(height, round(image.height * ratio)))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    if size[0] * size[1] > MOST_PIXELS:  # a narrow strip: what is cut off is not scaled at all
        across, down = image.width / size[0], image.height / size[1]
        return image.resize((width, height), bilinear, box=(left * across, top * down, (left + width) * across, (top + height) * down))
    if size != (image.width, image.height):
        image = image.resize(size, bilinear)
    return image.crop((left, top, left + width, top + height))
