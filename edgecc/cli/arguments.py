"""Values of command line options: shapes and files of arrays."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import lzma
import os
import re
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from edgecc import files
from edgecc.errors import EdgeccError, printable
from edgecc.files import open_plain
from edgecc.frontend.bind import GivenDim, Range
from edgecc.frontend.limits import Limits
from edgecc.ir.strings import is_string_array
from edgecc.ir.types import Array

_SUM = r"([A-Za-z_][\w.]*|\d{1,9})( *[*+-] *([A-Za-z_][\w.]*|\d{1,9})){0,8}"
_DIM = re.compile(r"((?P<name>[A-Za-z_]\w*):)?((?P<lower>[0-9]{1,18})(\.\.(?P<upper>[0-9]{1,18})(:(?P<step>[0-9]{1,18}))?)?|\?|"
                  rf"\((?P<sum>{_SUM})\))([xX]|\Z)", re.ASCII)
_BARE_SUM = re.compile(rf"(?=.*[A-Za-z_]){_SUM}", re.ASCII)
_NUMBER = re.compile(r"\d{1,19}|\d{1,9}e\d{1,2}")

_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)

ZIP_MAGIC, NUMPY_MAGIC = b"PK", b"\x93NUMPY"  # what files of several arrays, and of one, begin with
DESCRIPTION_LIMIT = 1 << 16  # bytes of an .npy header; numpy's own headers are far below
UNPACKED_BYTES, UNPACKED_TIMES = 1 << 28, 64
"""An .npz file that unpacks to more bytes than this, and to more than so many times its own, is there to fill memory."""

_DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError, SyntaxError, EOFError, struct.error,
           tokenize.TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What Python's and numpy's readers raise for damaged files of one form or another."""


def parse_shapes(options: Sequence[str]) -> dict[str, tuple[GivenDim, ...]]:
    """Reads options such as "input=1x3x224x224"; the part before the last "=" is an input or a dimension.

    A dimension may be left open between bounds, "1..8", also in steps, "64..320:32", or up to what the limits allow, "?". One that
    the model does not name may be given a name, "n:1..8"; those of one name are equal. One may follow from others: "total=past+seq",
    and in parentheses where it is one of several, "mask=1x(past+seq)".

    Raises: EdgeccError E001.
    """
    shapes: dict[str, tuple[GivenDim, ...]] = {}
    for option in options:
        name, equals, text = option.rpartition("=")
        dims = _dims(text)
        if dims is None and _BARE_SUM.fullmatch(text):
            dims = (text,)
        if not equals or not name or dims is None:
            raise EdgeccError("E001", f"--shape {printable(option)!r} is not understood",
                              hint="write --shape input=1x3x224x224, or --shape batch=4 for a named dimension; "
                                   "batch=1..8 leaves one open between bounds, height=64..320:32 in steps of 32; "
                                   "total=past+seq says what one follows from")
        if name in shapes:
            raise EdgeccError("E001", f"--shape is given twice for {printable(name)!r}")
        shapes[name] = dims
    return shapes


def _dims(text: str) -> tuple[GivenDim, ...] | None:
    """The dimensions between the letters x; None where they are not understood."""
    found: list[GivenDim] = []
    start = 0
    while start < len(text):
        part = _DIM.match(text, start)
        if part is None or (part["name"] and (part["sum"] or (part["lower"] and not part["upper"]))) or (part.end() == len(text) and text[-1] in "xX"):
            return None
        start = part.end()
        name = part["name"] or ""
        if part["sum"] is not None:
            found.append(part["sum"])
        elif part["lower"] is None:
            found.append(Range(name=name))
        elif part["upper"] is None:
            found.append(int(part["lower"]))
        else:
            found.append(Range(int(part["lower"]), int(part["upper"]), int(part["step"] or 1), name))
    return tuple(found)


def parse_constants(options: Sequence[str]) -> dict[str, Array]:
    """Reads options such as "sr=16000", "scales=1,2.5" or "mask=mask.npy": values of inputs that are the same in every run.

    Raises: EdgeccError E001, E007 where a file is not one of an array.
    """
    found: dict[str, Array] = {}
    for option in options:
        name, equals, text = option.rpartition("=")
        if not equals or not name or not text:
            raise EdgeccError("E001", f"--constant {printable(option)!r} is not understood",
                              hint="write --constant sr=16000, --constant sizes=640,480 or --constant mask=mask.npy")
        if name in found:
            raise EdgeccError("E001", f"--constant is given twice for {printable(name)!r}")
        found[name] = _read_array(Path(text)) if text.endswith(".npy") else _numbers(option, text)
    return found


def _numbers(option: str, text: str) -> Array:
    values = [{"true": True, "false": False}.get(part.lower(), part) for part in text.split(",")]
    try:
        numbers = [value if isinstance(value, bool) else int(value) if _INTEGER.fullmatch(value) else float(value) for value in values]
    except ValueError:
        raise EdgeccError("E001", f"--constant {printable(option)!r} is not understood", hint="values are numbers, true, false, or a file of type .npy") from None
    return np.asarray(numbers if len(numbers) > 1 else numbers[0])


def _read_array(path: Path) -> Array:
    where = printable(str(path))
    try:
        with open_plain(path) as file:
            return _array_of(file)
    except OSError as error:
        raise EdgeccError("E007", f"cannot be read: {error.strerror or printable(str(error))}", where=where) from None
    except _DAMAGE as error:
        raise EdgeccError("E007", f"not an .npy file of an array ({printable(str(error), 80)})", where=where) from None


def _array_of(file: IO[bytes]) -> Array:
    """The array of an open .npy file. Raises: what is in `_DAMAGE`, also where its description asks for more than memory holds."""
    try:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False, max_header_size=DESCRIPTION_LIMIT))
    except MemoryError:
        raise ValueError("it needs more memory than there is") from None


def parse_limits(options: Sequence[str]) -> Limits:
    """Reads options such as "nodes=50000" or "elements=2e9,rank=8": limits on untrusted models other than the usual ones.

    Raises: EdgeccError E001.
    """
    known = [field.name for field in dataclasses.fields(Limits)]
    given: dict[str, int] = {}
    for part in (part for option in options for part in option.split(",")):
        name, _, number = part.partition("=")
        if name not in known or not _NUMBER.fullmatch(number):
            close = difflib.get_close_matches(name, known, n=1)
            raise EdgeccError("E001", f"--limits {printable(part)!r} is not understood",
                              hint=f"did you mean {close[0]}=NUMBER?" if close and name not in known else
                              f"write --limits NAME=NUMBER; the names are {', '.join(known)}")
        given[name] = int(float(number)) if "e" in number else int(number)
    return Limits(**given)


def read_arrays(path: Path, option: str) -> dict[str, Array]:
    """The arrays of an .npz file by name; numpy's texts are strings. Pickled objects are refused.

    Raises: EdgeccError E007 where the file is not one.
    """
    where = printable(str(path))
    try:
        with open_plain(path) as file:
            magic = file.read(len(NUMPY_MAGIC))
            if magic == NUMPY_MAGIC:
                raise EdgeccError("E007", f"{option} wants an .npz file with one array for each name", where=where,
                                  hint='numpy.savez("inputs.npz", **{"name": array}) writes one')
            if not magic.startswith(ZIP_MAGIC):
                raise EdgeccError("E007", "not an .npz file of arrays", where=where)
            arrays = dict(_arrays_within(file))
        return {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in arrays.items()}
    except OSError as error:
        raise EdgeccError("E007", f"cannot be read: {error.strerror or printable(str(error))}", where=where) from None
    except _DAMAGE as error:
        raise EdgeccError("E007", f"not an .npz file of arrays ({printable(str(error), 80)})", where=where) from None


def _arrays_within(file: BinaryIO) -> Iterator[tuple[str, Array]]:
    """The arrays of an open .npz file, by name. Raises: what is in `_DAMAGE`."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        size, taken = sum(member.file_size for member in members), os.fstat(file.fileno()).st_size
        if size > max(UNPACKED_BYTES, UNPACKED_TIMES * taken):
            raise ValueError(f"{taken} bytes that unpack to {size}")
        for member in members:
            if not member.filename.endswith(".npy"):
                raise ValueError(f"{member.filename!r} in it is no array")
            with archive.open(member) as inside:
                yield member.filename.removesuffix(".npy"), _array_of(inside)


def read_text(path: Path) -> str:
    """A text file.

    Raises: EdgeccError E007.
    """
    try:
        return files.read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "not a text file"
        raise EdgeccError("E007", f"cannot be read: {what}", where=printable(str(path))) from None


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes an .npz file whole or not at all.

    Raises: EdgeccError E006.
    """
    with _replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        # Not numpy.savez: it takes names as keyword arguments, and an output may be called "file".
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                # Strings as numpy's text of a fixed width, which it writes without a pickle.
                np.lib.format.write_array(member, array.astype(np.str_) if is_string_array(array) else array, allow_pickle=False)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all.

    Raises: EdgeccError E006.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all.

    Raises: EdgeccError E006.
    """
    with _replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file beside `path` that takes its place when all went well, and is removed otherwise."""
    try:
        handle, fresh = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(fresh, 0o666 & ~umask)  # mkstemp makes files private
            os.replace(fresh, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise
    except OSError as error:
        raise EdgeccError("E006", f"cannot be written: {error.strerror or error}", where=printable(str(path))) from None


def in_dialect(backend: str | None, emit: str | None, dialect: str | None) -> str | None:
    """The back end that --backend, --emit and --dialect ask for together; a dialect is an option of the one for ONNX.

    Raises: EdgeccError E001 where they contradict each other.
    """
    if dialect is None:
        return backend
    if backend not in (None, "onnx") or emit not in (None, "onnx"):
        raise EdgeccError("E001", "--dialect is for --emit onnx", hint="with options of the back end write --backend onnx{dialect=NAME,opset=17}")
    return f"onnx{{dialect={dialect}}}"
