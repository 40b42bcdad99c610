"""ImageDecoder: pictures that are known are decoded while importing; others, and damaged ones, are refused."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from edgecc.errors import EdgeccError
from edgecc.frontend.importing import import_model
from edgecc.frontend.limits import Limits
from edgecc.ir.types import Array
from edgecc.reference.executor import execute

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)


def encoded(pixels: Array, kind: str) -> Array:
    image = pytest.importorskip("PIL.Image")
    out = io.BytesIO()
    image.fromarray(pixels).save(out, kind)
    return np.frombuffer(out.getvalue(), np.uint8)


def picture_model(make: Callable[..., Any], op: Callable[..., Any], info: Callable[..., Any], file: Array, **attributes: str) -> Any:
    return make([op("ImageDecoder", "file", "y", **attributes)], [], constants={"file": file},
                outputs=[info("y", ["h", "w", "c"], TensorProto.UINT8)])


def decoded(make: Any, op: Any, info: Any, file: Array, **attributes: str) -> Array:
    (pixels,) = execute(import_model(picture_model(make, op, info, file, **attributes)), {}).values()
    return pixels


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_known_pictures_are_decoded(make, op, info, kind):
    file = encoded(PIXELS, kind)
    assert decoded(make, op, info, file).tolist() == PIXELS.tolist()
    assert decoded(make, op, info, file, pixel_format="BGR").tolist() == PIXELS[:, :, ::-1].tolist()
    assert decoded(make, op, info, file, pixel_format="Grayscale").shape == (5, 7, 1)
    grey = encoded(PIXELS[:, :, 0], kind)
    assert decoded(make, op, info, grey).tolist() == np.repeat(PIXELS[:, :, :1], 3, axis=2).tolist()


def refused(code: str, model: Any, **options: Any) -> EdgeccError:
    with pytest.raises(EdgeccError) as caught:
        import_model(model, **options)
    assert caught.value.code == code
    return caught.value


def test_what_is_no_picture_is_an_error(make, op, info):
    file = encoded(PIXELS, "PNG")
    for wrong in (file[:40], file[:0], np.frombuffer(b"GIF89a" + bytes(30), np.uint8), np.arange(99, dtype=np.uint8)):
        refused("E102", picture_model(make, op, info, wrong))
    refused("E102", picture_model(make, op, info, file, pixel_format="CMYK"))
    refused("E101", picture_model(make, op, info, file), limits=Limits(elements=100))


def test_without_pillow_the_message_says_how_to_get_it(make, op, info, monkeypatch):
    file = encoded(PIXELS, "PNG")
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert "edgecc[pictures]" in refused("E105", picture_model(make, op, info, file)).hint
