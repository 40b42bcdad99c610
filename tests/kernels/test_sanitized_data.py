"""Kernels whose addresses follow from data, compiled with sanitizers and fed with numbers of every kind.

Coordinates that are infinite, NaN or beyond any integer, boxes and slices made of them: no access outside of a buffer, no overflow.
"""

import numpy as np
import pytest

from edgecc.ops.sampling import GridSample, RoiAlign
from edgecc.ops.selection import NonMaxSuppression, Unique
from edgecc.ops.windows import Col2Im, MaxPosition
from tests.support import ccompile, kernels

SPECIAL = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e18, -1e18, 3e9, -3e9, -0.0, 0.5, 1.0, -1.0, 7.25], np.float32)
IMAGE = kernels.numbers(0, (2, 5, 4, 7))
WILD = SPECIAL[np.random.default_rng(0).integers(0, len(SPECIAL), (2, 30, 2))]
ROIS = SPECIAL[np.random.default_rng(1).integers(0, len(SPECIAL), (9, 4))]
BATCH = np.array([0, 1, -1, 2, -3, 2**63 - 1, -(2**63), 0, 1])
BOXES = SPECIAL[np.random.default_rng(2).integers(0, len(SPECIAL), (2, 13, 4))]
SCORES = SPECIAL[np.random.default_rng(3).integers(0, len(SPECIAL), (2, 3, 13))]
LIMITS = [np.asarray(2**63 - 1), np.asarray(0.5, np.float32), np.asarray(-np.inf, np.float32)]
CASES = {
    "cubic": (GridSample("cubic", "reflection", "corners"), [IMAGE, WILD]),
    "average": (RoiAlign("average", 2, 3), [IMAGE, ROIS, BATCH]),
    "unique": (Unique(1), [np.round(WILD)]),
    "boxes": (NonMaxSuppression(5), [BOXES, SCORES, *LIMITS]),
    "max_position": (MaxPosition((3, 3), (2, 1), (2, 2, 2, 2), (1, 2), ceil_mode=True), [IMAGE]),
    "col2im": (Col2Im((7, 9), (3, 2), (2, 3), (1, 0, 2, 1), (2, 1)), [kernels.numbers(0, (2, 3, 6, 9))]),
}
WITHOUT_NUMBERS = ("cubic", "average")
"""Cases whose results are what rounding makes of wild coordinates; that they keep to their buffers is what is tested."""


@pytest.mark.parametrize("name", CASES)
def test_is_clean(name):
    op, arrays = CASES[name]
    request, flags = kernels.request_for(op, arrays, "x86-64-v3"), ("-O1", *ccompile.SANITIZERS)
    if name in WITHOUT_NUMBERS:
        (got,) = kernels.run(request, arrays, "x86-64-v3", flags=flags)
        assert got.shape == request.outputs[0].dims
    else:
        kernels.check(request, arrays, units=64.0, machine="x86-64-v3", flags=flags)
