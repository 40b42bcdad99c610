"""Picture files, which are decoded while compiling."""

from __future__ import annotations

import importlib
import io
import warnings
from typing import Any

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.types import Array, DType

_FORMATS = ("BMP", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_MODES = {"RGB": "RGB", "BGR": "RGB", "Grayscale": "L"}


@converter("ImageDecoder", since=20)
def _image_decoder(call: Call) -> Value:
    """u8 [height, width, channels] of a file that is known: code that decodes JPEG or PNG is larger than most networks."""
    pixel_format = call.text("pixel_format", "RGB")
    if pixel_format not in _MODES:
        raise EdgeccError("E102", f"pixel_format is '{printable(pixel_format)}', wanted one of {', '.join(_MODES)}")
    data = call.known(0, "the picture file")
    if data.dtype != DType.U8.numpy or data.ndim != 1:
        raise EdgeccError("E110", f"the picture file must be a vector of bytes, it is {call.input().type}")
    pixels = _decoded(call, data.tobytes(), _MODES[pixel_format])
    return call.constant(np.ascontiguousarray(pixels[:, :, ::-1] if pixel_format == "BGR" else pixels))


def _decoded(call: Call, data: bytes, mode: str) -> Array:
    """The pixels [height, width, channels] of a file whose size is within the limits.

    Raises: Unsupported without Pillow; EdgeccError E101 for too large a picture, E102 for what is none.
    """
    try:
        pillow: Any = importlib.import_module("PIL.Image")
    except ImportError:
        raise Unsupported("the picture is decoded by Pillow, which is not installed", "pip install 'edgecc[pictures]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures, which the limits are for
            with pillow.open(io.BytesIO(data), formats=_FORMATS) as picture:
                width, height = picture.size
                call.importer.limits.check_dims((height, width, len(mode)), "the picture")
                pixels = np.asarray(picture.convert(mode), np.uint8)
    except EdgeccError:
        raise
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise EdgeccError("E102", f"the picture cannot be decoded: {printable(str(error), 120)}") from error
    return pixels.reshape(height, width, len(mode))
