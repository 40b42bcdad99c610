"""Headers that gcc has parsed before: arm_neon.h takes longer to read than most kernels take to compile."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

_INCLUDES = re.compile(r"\s*(?:#include <[^>\n]+>\s*\n)+")
_LARGE = "<arm_neon.h>"


def with_parsed_headers(text: str, arguments: Sequence[str], folder: Path) -> tuple[str, list[str]]:
    """A C file that takes the headers it begins with from where they lie parsed, and the arguments that say where.

    They are parsed into `folder` when they are met for the first time with these arguments of gcc. Files without large
    headers stay as they are.
    """
    includes = _INCLUDES.match(text)
    if includes is None or _LARGE not in includes[0]:
        return text, []
    place = folder / hashlib.sha256(repr((includes[0], arguments)).encode()).hexdigest()[:16]
    if not place.exists():
        place.mkdir()
        (place / "headers.h").write_text(includes[0], encoding="utf-8")
        subprocess.run([*arguments, "-x", "c-header", "headers.h", "-o", "headers.h.gch"], cwd=place, check=True, timeout=300)
    return f'#include "headers.h"\n{text[includes.end():]}', [f"-I{place}"]
