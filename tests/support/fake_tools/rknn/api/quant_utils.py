"""Speaks the interface of the part of RKNN-Toolkit2 that computes limits of quantized values."""

from __future__ import annotations

from collections.abc import Sequence


def get_min_max_from_scale_zp(scale: Sequence[float], zp: Sequence[int], dtype: str, qtype: str | None = None) -> tuple[list[float], list[float]]:
    least = -127 if qtype == "sym" else -128
    return [(least - z) * s for s, z in zip(scale, zp, strict=True)], [(127 - z) * s for s, z in zip(scale, zp, strict=True)]
