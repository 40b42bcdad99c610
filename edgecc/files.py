"""Opening files that somebody else may have made: plain ones, of a size that makes sense."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

MOST_TEXT_BYTES = 1 << 24
"""Targets, tuning files, lists and textual graphs are far smaller."""


def open_plain(path: Path) -> BinaryIO:
    """The bytes of a plain file; a pipe or a device would keep the reader waiting, or give bytes without end.

    Raises: OSError, also where it is no plain file.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no plain file", str(path))
    return os.fdopen(descriptor, "rb")


def read_text(path: Path) -> str:
    """The text of a plain file in UTF-8.

    Raises: OSError, also where it is no plain file, or larger than any text is; UnicodeDecodeError.
    """
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_TEXT_BYTES:
            raise OSError(errno.EFBIG, f"it has {size} bytes; at most are {MOST_TEXT_BYTES}", str(path))
        return file.read().decode("utf-8")
