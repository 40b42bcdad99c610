"""Stand-ins for vendors' tools, and environments that have them."""

from __future__ import annotations

import sys
from pathlib import Path


def fake_environment(folder: Path) -> Path:
    """An environment whose Python is this one, with the stand-ins of this folder in its path."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{Path(__file__).parent}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return folder
