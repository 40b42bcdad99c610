"""Recipes of operators that stand alone: transforms, windows, determinants, losses, suppression."""

from __future__ import annotations

import numpy as np

from tests.support.growth import Growth


def transformed(g: Growth) -> object:
    """Fourier transforms, windows, determinants, losses, suppression: what stands alone."""
    x = g.pick(ranks=(2, 3, 4))
    match g.source.randrange(6):
        case 0 if x is not None and g.opset >= 17 and x.rank >= 2:
            last = g.add("Unsqueeze", [x, g.constant([-1], np.int64)])
            if last is None or x.dtype == np.float16:
                return None
            axes = {"axis": x.rank - 1} if g.opset < 20 else {}
            return g.add("DFT", [last[0], *(["", g.constant(x.rank - 1, np.int64)] if g.opset >= 20 else [])], onesided=g.source.randrange(2), **axes)
        case 1 if g.opset >= 17:
            return g.add(g.one_of(("HannWindow", "HammingWindow", "BlackmanWindow")), [g.constant(g.one_of((1, 4, 9)), np.int64)], periodic=g.source.randrange(2))
        case 2 if x is not None and x.rank >= 2 and x.fixed[-1] == x.fixed[-2] and x.fixed[-1] and g.opset >= 12:
            # Of nearly singular matrices every rounding makes another number: the diagonal outweighs the rest here.
            small = g.add("Clip", [x, g.constant(-1 / 16, x.dtype), g.constant(1 / 16, x.dtype)])
            plain = None if small is None else g.add("Add", [small[0], g.constant(np.eye(x.fixed[-1]) * 2, x.dtype)])
            return None if plain is None else g.add("Det", [plain[0]])
        case 3 if x is not None and x.rank >= 2 and x.fixed[1] and x.is_fixed and x.dtype != np.float16:
            classes = g.constant(np.random.default_rng(g.source.randrange(2**32)).integers(0, x.shape[1], (x.shape[0], *x.shape[2:])), np.int64)
            name = g.one_of(("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"))
            return g.add(name, [x, classes], reduction=g.one_of(("mean", "sum", "none")), **({"ignore_index": 0} if g.chance(3) else {}))
        case 4:
            boxes, scores = g.quarters((1, 6, 4)), np.abs(g.quarters((1, 2, 6))) + np.arange(12, dtype=np.float32).reshape(1, 2, 6) / 64
            return g.add("NonMaxSuppression", [g.constant(boxes), g.constant(scores), g.constant([3], np.int64), g.constant([0.4], np.float32), g.constant([0.5], np.float32)],
                         center_point_box=g.source.randrange(2))
        case 5 if x is not None and x.rank == 3 and x.is_fixed and g.opset >= 18 and x.shape[1] % 4 == 0 and x.shape[2] == 6:
            return g.add("Col2Im", [x, g.constant([3, 4], np.int64), g.constant([2, 2], np.int64)])
    return None
