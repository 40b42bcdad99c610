"""Cutting an extent into parts of nearly equal size."""

from __future__ import annotations


def balanced_parts(extent: int, most: int) -> tuple[tuple[int, int], ...]:
    """As few parts of at most `most` as cover `extent`, of at most two sizes that differ by one: ((size, count), ...).

    49 by 14 is 13 + 12 + 12 + 12, ((13, 1), (12, 3)), where whole parts and a rest would be 14 + 14 + 14 + 7.
    """
    if extent <= 0:
        return ()
    parts = -(-extent // most)
    size, larger = divmod(extent, parts)
    return tuple((s, count) for s, count in ((size + 1, larger), (size, parts - larger)) if count)
