"""Reading the figures of a profiled build (see edgecc/backends/c/profile.py) from its shared library."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from edgecc.errors import EdgeccError


class ProfileStruct(ctypes.Structure):
    """`NAME_profile` of the header of a profiled build."""

    _fields_ = (
        ("calls", ctypes.c_uint64), ("runs", ctypes.c_uint64), ("total", ctypes.POINTER(ctypes.c_uint64)),
        ("least", ctypes.POINTER(ctypes.c_uint64)), ("seconds_per_tick", ctypes.c_double),
    )


@dataclass(frozen=True)
class Profile:
    """Time of each kernel call, in seconds, in the order of the run.

    Attributes:
        runs: how many runs were measured.
        mean, least: of each call over all runs.
    """

    runs: int
    mean: tuple[float, ...]
    least: tuple[float, ...]


def read_profile(library: ctypes.CDLL, name: str) -> Profile:
    """The figures so far of the network `name` in a loaded library.

    Raises: EdgeccError E007 where the library is not a profiled build.
    """
    try:
        get_profile = getattr(library, f"{name}_get_profile")
    except AttributeError:
        raise EdgeccError("E007", "the library was not built with a profile", where=name) from None
    get_profile.restype = ctypes.POINTER(ProfileStruct)
    struct: ProfileStruct = get_profile().contents
    tick, runs = struct.seconds_per_tick, struct.runs
    return Profile(runs, tuple(struct.total[i] * tick / max(1, runs) for i in range(struct.calls)),
                   tuple(struct.least[i] * tick for i in range(struct.calls)))
