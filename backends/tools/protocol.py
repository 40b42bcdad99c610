"""The side of the protocol that runs in a tool's environment, where edgecc is not installed.

A worker is called in a folder of its own, with request.json and the files it names. It leaves answer.json, and files in results/.
Nothing but the standard library is imported here.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

REQUEST, ANSWER, RESULTS = "request.json", "answer.json", "results"

_FIXED_ADDRESSES = 0x0040000
"""ADDR_NO_RANDOMIZE of personality(2)."""


def serve(work: Callable[[Mapping[str, Any], Path], Mapping[str, Any]]) -> None:
    """Answers one request: calls `work` with it and the folder for files, and writes what it returns."""
    fix_addresses()
    results = Path(RESULTS)
    results.mkdir()
    answer = work(json.loads(Path(REQUEST).read_text(encoding="utf-8")), results)
    Path(ANSWER).write_text(json.dumps(answer), encoding="utf-8")


def fix_addresses() -> None:
    """Starts this process anew without random addresses, where the system allows it.

    Tools write uninitialized bytes of structures into their files, addresses among them.
    """
    if not sys.platform.startswith("linux"):
        return
    personality = ctypes.CDLL(None).personality
    now = personality(ctypes.c_ulong(0xFFFFFFFF))
    if now != -1 and not now & _FIXED_ADDRESSES and personality(ctypes.c_ulong(now | _FIXED_ADDRESSES)) != -1:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
