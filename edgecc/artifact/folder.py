"""The artifact: what a compilation leaves behind, its manifest, and the folder it lives in.

    NAME.h NAME.c kernels*.c weights.bin weights.S edgecc_abi.h CMakeLists.txt selftest.c ... manifest.json

A folder appears whole or not at all: it is written beside its final place and renamed. An existing
folder is replaced only if it is an artifact or empty; files in it that edgecc did not write are kept.
File names never come from the model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecc.artifact.abi import ABI_VERSION, HEADER, HEADER_NAME, OPEN_HEADER, OPEN_HEADER_NAME
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph
from edgecc.ir.parser import parse_dim
from edgecc.ir.types import Array, DType, TensorType
from edgecc.loop.module import Interface, Module, Stripes
from edgecc.targets.precision import precision_name
from edgecc.targets.schema import Target, parse_target, target_table
from edgecc.version import VERSION

MANIFEST_NAME = "manifest.json"
MANIFEST_FORMAT = "edgecc-artifact"
MANIFEST_SCHEMA = 1
WEIGHTS_FORMAT = 1
"""Version of the order of bytes in weights.bin: constants at their offsets, little-endian, gaps zero."""

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_PATH = re.compile(rf"(?:{_FILE_NAME.pattern}/)?{_FILE_NAME.pattern}")
"""Files may lie in folders of the artifact, one deep: those of a divided network do."""
_DTYPES = {str(dtype.numpy): dtype for dtype in DType}


@dataclass(frozen=True)
class Weights:
    """The weights of an artifact.

    Attributes:
        size_bytes: bytes of the blob, gaps included.
        sha256: of the blob, in hexadecimal.
        file: the file that holds the blob, or "" where it stands in the C code.
        linked: whether the blob is linked in; otherwise the caller passes it to `init`.
        format: `WEIGHTS_FORMAT`.
    """

    size_bytes: int
    sha256: str
    file: str
    linked: bool
    format: int = WEIGHTS_FORMAT


@dataclass(frozen=True)
class KernelUse:
    """A generated kernel and, for each call of it, the nodes of the user's model that the call stands for."""

    function: str
    calls: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class FileEntry:
    """A file of the folder."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says.

    Attributes:
        name: the C identifier that prefixes everything in the code.
        target: the whole description of the target, so that tools need no other file.
        threads: the number of threads `run` uses.
        precision: the shortest float type it computes in: "fp32", "fp16" or "bf16".
        inputs, outputs: the interface, under the names of the user's model.
        arena_bytes, arena_align, arena_lower_bound: memory of one run, and the least any plan could use.
        weights: see `Weights`.
        sources: files that are compiled and linked into the model, in order.
        library: name of a ready shared library in the folder, or "".
        program: name of a ready executable in the folder, or "".
        kernels: which kernel computes which nodes.
        depth_first: for each block of kernels that run stripe by stripe how many kernels and how many stripes it has.
        files: every file but manifest.json.
        backend: the back end that wrote it, with its options.
        main: the file that other tools take, where the back end writes for some; "" for C.
        report: figures that the back end gives, as JSON values by name.
        version: of edgecc. abi: of the C interface.
    """

    name: str
    target: Target
    threads: int
    inputs: tuple[Interface, ...]
    outputs: tuple[Interface, ...]
    arena_bytes: int
    arena_align: int
    arena_lower_bound: int
    weights: Weights
    sources: tuple[str, ...]
    kernels: tuple[KernelUse, ...]
    files: tuple[FileEntry, ...]
    precision: str = "fp32"
    library: str = ""
    program: str = ""
    depth_first: tuple[tuple[int, int], ...] = ()
    backend: str = "c"
    main: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)
    version: str = VERSION
    abi: int = ABI_VERSION

    def to_json(self) -> bytes:
        """The content of manifest.json; the same manifest always gives the same bytes."""
        return (json.dumps(self.to_table(), indent=2) + "\n").encode("ascii")

    def to_table(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        return {
            "format": MANIFEST_FORMAT, "schema": MANIFEST_SCHEMA, "edgecc": self.version, "abi": self.abi,
            "name": self.name, "backend": self.backend, "main": self.main, "report": dict(self.report), "threads": self.threads, "precision": self.precision,
            "inputs": [_port_table(port) for port in self.inputs],
            "outputs": [_port_table(port) for port in self.outputs],
            "arena": {"bytes": self.arena_bytes, "align": self.arena_align, "lower_bound": self.arena_lower_bound},
            "weights": {"bytes": self.weights.size_bytes, "format": self.weights.format, "sha256": self.weights.sha256,
                        "file": self.weights.file, "linked": self.weights.linked},
            "sources": list(self.sources), "library": self.library, "program": self.program,
            "kernels": [{"function": use.function, "calls": [list(call) for call in use.calls]} for use in self.kernels],
            "depth_first": [{"kernels": kernels, "stripes": stripes} for kernels, stripes in self.depth_first],
            "files": [{"name": e.name, "bytes": e.size_bytes, "sha256": e.sha256} for e in self.files],
            "target": target_table(self.target),
        }

    @staticmethod
    def from_json(data: bytes, where: str) -> Manifest:
        """Reads manifest.json. `where` names the file in errors.

        Raises: EdgeccError E007 where it is not one, or of another version.
        """
        try:
            table = json.loads(data)
            if table["format"] != MANIFEST_FORMAT:
                raise KeyError("format")
            if table["schema"] != MANIFEST_SCHEMA or table["abi"] != ABI_VERSION:
                raise EdgeccError("E007", f"artifact of manifest schema {table['schema']!r} and ABI {table['abi']!r}; "
                                  f"this version reads {MANIFEST_SCHEMA} and {ABI_VERSION}", where=where,
                                  hint="compile the model again")
            return _manifest_from(table, where)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise EdgeccError("E007", f"not a manifest of an edgecc artifact ({type(error).__name__}: {printable(str(error), 80)})",
                              where=where) from None


@dataclass(frozen=True)
class Artifact:
    """A finished compilation: the manifest and the content of every file it lists, by name."""

    manifest: Manifest
    files: Mapping[str, bytes]

    @property
    def name(self) -> str:
        """The C identifier that prefixes everything in the code."""
        return self.manifest.name

    @property
    def arena_bytes(self) -> int:
        """Bytes of the arena of one run."""
        return self.manifest.arena_bytes

    @property
    def weights_bytes(self) -> int:
        """Bytes of the weights."""
        return self.manifest.weights.size_bytes

    def with_library(self, name: str, content: bytes) -> Artifact:
        """The same artifact with a ready shared library among its files."""
        files = {**self.files, name: content}
        return Artifact(replace(self.manifest, files=_entries(files), library=name), files)

    def with_program(self, name: str, content: bytes) -> Artifact:
        """The same artifact with a ready executable among its files."""
        files = {**self.files, name: content}
        return Artifact(replace(self.manifest, files=_entries(files), program=name), files)

    def write(self, folder: str | Path) -> Path:
        """Writes the folder whole or not at all, and returns its path.

        Raises: EdgeccError E006 where the folder is something else's or cannot be created.
        """
        return _write_folder(Path(folder), {**self.files, MANIFEST_NAME: self.manifest.to_json()}, self.manifest.program)

    @staticmethod
    def read(folder: str | Path) -> Artifact:
        """Reads a folder back and checks every file against the manifest.

        Raises: EdgeccError E007 where a file is missing or differs.
        """
        path = Path(folder)
        manifest = read_manifest(path)
        files = {}
        for entry in manifest.files:
            try:
                content = (path / entry.name).read_bytes()
            except OSError as error:
                raise EdgeccError("E007", f"a file of the artifact cannot be read: {error.strerror or error}",
                                  where=printable(str(path / entry.name))) from None
            if hashlib.sha256(content).hexdigest() != entry.sha256:
                raise EdgeccError("E007", "the file differs from what the manifest says",
                                  where=printable(str(path / entry.name)), hint="compile the model again")
            files[entry.name] = content
        return Artifact(manifest, files)


def make_artifact(module: Module, target: Target, files: Mapping[str, bytes], sources: Sequence[str], *,
                  weights_file: str = "", weights_linked: bool = True) -> Artifact:
    """Completes what a back end wrote to an artifact: adds edgecc_abi.h and the manifest.

    Args:
        module: the network; its interface, memory and calls enter the manifest.
        target: what it was compiled for.
        files: what the back end wrote, by name.
        sources: names out of `files` to compile and link, in order.
        weights_file: the one of `files` that holds `weights_blob(module)`, if any.
        weights_linked: whether the code links the weights in; otherwise they are passed to `init`.
    """
    everything = {**files, HEADER_NAME: HEADER, **({OPEN_HEADER_NAME: OPEN_HEADER} if module.is_open else {})}
    _check_names(everything)
    uses: dict[str, list[tuple[str, ...]]] = {function.name: [] for function in module.functions}
    for call in module.all_calls:
        uses.setdefault(call.function, []).append(call.loc)
    blob = everything.get(weights_file, b"") if weights_file else weights_blob(module)
    manifest = Manifest(
        name=module.name, target=target, threads=module.threads, precision=precision_name(module.precision), inputs=module.inputs, outputs=module.outputs,
        arena_bytes=module.arena_bytes, arena_align=module.arena_align, arena_lower_bound=module.arena_lower_bound,
        weights=Weights(module.weights_bytes, hashlib.sha256(blob).hexdigest(), weights_file, weights_linked),
        sources=tuple(sources), kernels=tuple(KernelUse(name, tuple(calls)) for name, calls in uses.items()),
        depth_first=tuple((len(item.calls), len(item.ends)) for item in module.all_items if isinstance(item, Stripes)),
        files=_entries(everything))
    return Artifact(manifest, everything)


def make_export(backend: str, graph: Graph, name: str, target: Target, files: Mapping[str, bytes], main: str, *,
                report: Mapping[str, Any] | None = None, arena_bytes: int = 0, weights_bytes: int = 0) -> Artifact:
    """The artifact of a back end that takes graphs: its files and the manifest.

    Args:
        backend: its name with options (`edgecc.options.spelled`).
        graph: the network; its interface enters the manifest.
        name: a C identifier. target: what it was compiled for.
        files: by name, which is of letters, digits, "_", "-" and "." and starts with none of the last two.
        main: the one of them that other tools take.
        report: figures for people and tools, as JSON values.
        arena_bytes, weights_bytes: memory for intermediate values and for weights, where the back end knows.
    Raises: EdgeccError E900 for a bad name of a file, or values in the report that JSON has not.
    """
    _check_names(files)
    if main not in files:
        raise EdgeccError("E900", f"{printable(main)!r} is none of the files {', '.join(files)}")
    try:
        figures = json.loads(json.dumps(dict(report or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise EdgeccError("E900", f"the report of back end {backend} is no JSON: {error}") from None
    ports = [tuple(Interface(n, v.type) for n, v in zip(names, values, strict=True))
             for names, values in ((graph.input_names, graph.inputs), (graph.output_names, graph.outputs))]
    return Artifact(Manifest(
        name=name, target=target, threads=1, inputs=ports[0], outputs=ports[1], arena_bytes=arena_bytes, arena_align=1,
        arena_lower_bound=0, weights=Weights(weights_bytes, "", "", True), sources=(), kernels=(), files=_entries(files),
        backend=backend, main=main, report=figures), dict(files))


def _check_names(files: Iterable[str]) -> None:
    for name in files:
        if not _PATH.fullmatch(name) or name.partition("/")[0] == MANIFEST_NAME:
            raise EdgeccError("E900", f"{name!r} cannot be the name of a file of an artifact")


def weights_blob(module: Module) -> bytes:
    """The weights of a module as one little-endian blob of `weights_bytes` bytes, gaps zero."""
    # Joined without a copy of the whole in between: the weights are most of what a compilation holds in memory.
    parts: list[memoryview | bytes] = []
    end = 0
    for constant in module.constants:
        data: Array = np.ascontiguousarray(constant.data if sys.byteorder == "little" else constant.data.byteswap())
        raw = data.reshape(-1).view(np.uint8)
        parts += [bytes(constant.offset - end), raw.data]
        end = constant.offset + raw.size
    return b"".join([*parts, bytes(module.weights_bytes - end)])


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact folder.

    Raises: EdgeccError E007 where the folder is none.
    """
    path = folder / MANIFEST_NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        what = "no such file or folder" if not folder.exists() else f"not an edgecc artifact ({MANIFEST_NAME}: {error.strerror})"
        raise EdgeccError("E007", what, where=printable(str(folder))) from None
    return Manifest.from_json(data, printable(str(path)))


# -- the manifest's parts ---------------------------------------------------------------------------


def _entries(files: Mapping[str, bytes]) -> tuple[FileEntry, ...]:
    return tuple(FileEntry(name, len(content), hashlib.sha256(content).hexdigest())
                 for name, content in sorted(files.items()))


def _port_table(port: Interface) -> dict[str, Any]:
    largest = port.type.largest
    table = {"name": port.name, "dtype": str(port.type.dtype.numpy), "shape": list(largest.dims), "bytes": largest.packed_bytes}
    if not port.type.is_static:
        table["open"] = [dim if isinstance(dim, int) else str(dim) for dim in port.type.shape]
    return table


def _port_from(table: Mapping[str, Any]) -> Interface:
    return Interface(str(table["name"]), TensorType(
        _DTYPES[table["dtype"]], tuple(parse_dim(d) if isinstance(d, str) else int(d) for d in table.get("open", table["shape"]))))


def _manifest_from(table: Mapping[str, Any], where: str) -> Manifest:
    files = tuple(FileEntry(str(e["name"]), int(e["bytes"]), str(e["sha256"])) for e in table["files"])
    weights, arena = table["weights"], table["arena"]
    sources, library, program = tuple(str(s) for s in table["sources"]), str(table["library"]), str(table["program"])
    main = str(table.get("main", ""))
    for name in (*sources, *filter(None, (library, program, main, str(weights["file"])))):
        if not _FILE_NAME.fullmatch(name):
            raise ValueError(f"bad file name {name!r}")
    for entry in files:
        if not _PATH.fullmatch(entry.name):
            raise ValueError(f"bad file name {entry.name!r}")
    return Manifest(
        name=str(table["name"]), target=parse_target(table["target"], where), threads=int(table["threads"]),
        precision=str(table.get("precision", "fp32")),
        inputs=tuple(_port_from(t) for t in table["inputs"]), outputs=tuple(_port_from(t) for t in table["outputs"]),
        arena_bytes=int(arena["bytes"]), arena_align=int(arena["align"]), arena_lower_bound=int(arena["lower_bound"]),
        weights=Weights(int(weights["bytes"]), str(weights["sha256"]), str(weights["file"]), bool(weights["linked"]),
                        int(weights["format"])),
        sources=sources, library=library, program=program, backend=str(table.get("backend", "c")), main=main,
        report=dict(table.get("report", {})), files=files, version=str(table["edgecc"]), abi=int(table["abi"]),
        kernels=tuple(KernelUse(str(k["function"]), tuple(tuple(str(n) for n in call) for call in k["calls"]))
                      for k in table["kernels"]),
        depth_first=tuple((int(block["kernels"]), int(block["stripes"])) for block in table["depth_first"]))


# -- writing ----------------------------------------------------------------------------------------


def _write_folder(folder: Path, files: Mapping[str, bytes], program: str) -> Path:
    where = printable(str(folder))
    _check_replaceable(folder, where)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".new", dir=folder.parent))
    except OSError as error:
        raise EdgeccError("E006", f"cannot create the folder: {error.strerror or error}", where=where) from None
    try:
        umask = os.umask(0)
        os.umask(umask)
        fresh.chmod(0o777 & ~umask)  # mkdtemp makes folders private
        for name, content in sorted(files.items()):
            (fresh / name).parent.mkdir(exist_ok=True)
            (fresh / name).write_bytes(content)
            if name == program:
                (fresh / name).chmod(0o777 & ~umask)
        _exchange(fresh, folder)
    except OSError as error:
        raise EdgeccError("E006", f"cannot write the folder: {error.strerror or error}", where=where) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _check_replaceable(folder: Path, where: str) -> None:
    """E006 unless `folder` is absent, empty, or an artifact."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise EdgeccError("E006", "exists and is no folder", where=where)
    try:
        if not folder.exists() or not any(folder.iterdir()):
            return
        read_manifest(folder)
    except OSError as error:
        raise EdgeccError("E006", f"cannot be read: {error.strerror or error}", where=where) from None
    except EdgeccError:
        raise EdgeccError("E006", "exists and is not an edgecc artifact", where=where,
                          hint="choose another folder with -o, or remove this one") from None


def _exchange(fresh: Path, folder: Path) -> None:
    """Puts `fresh` in the place of `folder`, then carries over what edgecc had not written into the old one."""
    if not folder.exists():
        fresh.rename(folder)
        return
    aside = fresh.with_suffix(".old")
    folder.rename(aside)
    try:
        fresh.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    ours = {MANIFEST_NAME}
    with contextlib.suppress(EdgeccError):
        ours |= {entry.name.partition("/")[0] for entry in read_manifest(aside).files}
    for item in sorted(aside.iterdir()):
        if item.name not in ours and not (folder / item.name).exists():
            item.rename(folder / item.name)
    shutil.rmtree(aside, ignore_errors=True)
