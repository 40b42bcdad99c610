"""From a file, bytes or a ModelProto to a checked ModelProto with all weights in memory.

The model is untrusted. Sizes are compared with the limits before anything is read or allocated, and
weights outside the model file are read only from plain files inside the model's folder.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, Message

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.limits import Limits, all_tensors, check_counts, check_limits, check_list, raised, stored_bytes

OLDEST_OPSET = 1
_MAGICS = (
    (0, b"\x89PNG", "a PNG picture"), (0, b"PK\x03\x04", "a zip archive (a PyTorch or numpy file, perhaps)"),
    (0, b"\x7fELF", "an ELF program"), (0, b"\x89HDF", "an HDF5 file (Keras, perhaps)"), (0, b"GGUF", "a GGUF file"),
    (0, b"\x1f\x8b", "a gzip file"), (4, b"ORTM", "an ORT-format model"), (4, b"TFL3", "a TensorFlow Lite model"),
)
_HINT_OPSET = "onnx.version_converter.convert_version can convert the model"


@dataclass(frozen=True)
class LoadedModel:
    """A parsed model within its limits, its weights in memory.

    Attributes:
        proto: the model; no tensor of it is external.
        name: what to call the model in messages.
        opsets: version of each operator domain the model imports; "" is ONNX itself.
    """

    proto: onnx.ModelProto
    name: str
    opsets: dict[str, int]


def load_model(source: str | Path | bytes | onnx.ModelProto, limits: Limits) -> LoadedModel:
    """Parses a model and checks limits, versions and external data.

    Raises: EdgeccError E007 (no such file), E100 (not a model), E101 (limit), E102 (invalid),
    E103 (external data), E106 (opset).
    """
    folder: Path | None = None
    name = source_name(source)
    if isinstance(source, onnx.ModelProto):
        model = source
    elif isinstance(source, bytes):
        _check_size(len(source), limits, name)
        model = _parse(source, name)
    else:
        path = Path(source)
        data = _read_file(path, limits, name)
        folder = path.parent
        model = _parse(data, name)
    check_counts(model, limits)
    _check_messages(model, name, limits)
    opsets = _check_header(model, name)
    check_limits(model, limits)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in all_tensors(model, limits)):
        if model is source:
            model = onnx.ModelProto()
            model.CopyFrom(source)
        _load_external(model, folder, limits)
    return LoadedModel(model, name, opsets)


def source_name(source: str | Path | bytes | onnx.ModelProto) -> str:
    """What to call a model in messages: the name of its file, or "model"."""
    return printable(Path(source).name) if isinstance(source, str | Path) else "model"


def _check_size(size: int, limits: Limits, name: str) -> None:
    if size > limits.file_bytes:
        raise EdgeccError("E101", f"{size} bytes; the limit is {limits.file_bytes}", where=name,
                          hint=raised("file_bytes"))


def _read_file(path: Path, limits: Limits, name: str) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise EdgeccError("E007", f"'{printable(str(path))}' is not a file")
        _check_size(status.st_size, limits, name)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise EdgeccError("E007", f"cannot read '{printable(str(path))}': {printable(reason)}") from error


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    if not data:
        raise EdgeccError("E100", "the file is empty", where=name)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RecursionError) as error:
        raise EdgeccError("E100", _guess(data), where=name) from error
    if model.ir_version <= 0 or not model.HasField("graph"):
        raise EdgeccError("E100", _guess(data), where=name)
    return model


def _guess(data: bytes) -> str:
    """What a file that does not parse probably is."""
    for position, magic, what in _MAGICS:
        if data[position:position + len(magic)] == magic:
            return f"this is {what}, not an ONNX model"
    if data[:256].isascii() and data[:256].decode("ascii").isprintable():
        return "this is a text file, not an ONNX model"
    return "the file cannot be parsed: it is truncated, damaged, or no ONNX model"


def _check_messages(model: onnx.ModelProto, name: str, limits: Limits) -> None:
    """Refuses lists without end, before they are looked into, and texts that are no UTF-8, which protobuf lets through as bytes or
    raises for when they are read."""
    pending: list[Message] = [model]
    while pending:
        message = pending.pop()
        try:
            if isinstance(message, onnx.TensorProto):  # its data is not looked at: that would copy it
                texts: list[object] = [message.name, message.doc_string]
            else:
                texts = []
                for field, value in message.ListFields():
                    values = [value] if isinstance(value, str | bytes | Message) else value
                    if field.type in (field.TYPE_MESSAGE, field.TYPE_STRING):
                        check_list(field.name, values, limits)
                    if field.type == field.TYPE_MESSAGE:
                        pending.extend(values)
                    elif field.type == field.TYPE_STRING:
                        texts.extend(values)
        except UnicodeDecodeError as error:
            raise EdgeccError("E100", "a name in the file is not UTF-8: the file is damaged", where=name) from error
        if not all(isinstance(text, str) for text in texts):
            raise EdgeccError("E100", "a name in the file is not UTF-8: the file is damaged", where=name)


def _check_header(model: onnx.ModelProto, name: str) -> dict[str, int]:
    if model.ir_version <= 0 or not model.HasField("graph"):
        raise EdgeccError("E102", "the model has no IR version or no graph", where=name)
    if model.ir_version > onnx.IR_VERSION:
        raise EdgeccError("E102", f"IR version {model.ir_version} is newer than the installed onnx package "
                                  f"({onnx.IR_VERSION})", where=name, hint="pip install --upgrade onnx")
    opsets: dict[str, int] = {}
    for opset in model.opset_import:
        domain = "" if opset.domain == "ai.onnx" else opset.domain
        if opsets.get(domain, opset.version) != opset.version:
            raise EdgeccError("E102", f"two versions of the operator domain '{printable(domain or 'ai.onnx')}'", where=name)
        if not 0 <= opset.version < 2**31:
            raise EdgeccError("E106", f"opset {opset.version} of the domain '{printable(domain or 'ai.onnx')}'", where=name)
        opsets[domain] = opset.version
    check_opset(opsets, name)
    if "" not in opsets and any(node.domain in ("", "ai.onnx") for node in model.graph.node):
        raise EdgeccError("E102", "the model does not say which opset it uses", where=name,
                          hint="add an opset_import for the default domain")
    return opsets


def check_opset(opsets: dict[str, int], name: str) -> None:
    """Checks the version of the default domain.

    Raises: EdgeccError E106 if it is 0 or unknown to the installed onnx package.
    """
    version = opsets.get("")
    newest = onnx.defs.onnx_opset_version()
    if version is not None and not OLDEST_OPSET <= version <= newest:
        raise EdgeccError("E106", f"opset {version}; supported are {OLDEST_OPSET} to {newest}", where=name, hint=_HINT_OPSET)


# -- external data ----------------------------------------------------------------------------


def _load_external(model: onnx.ModelProto, folder: Path | None, limits: Limits) -> None:
    unread: dict[Path, int] = {}  # bytes of each file beyond what was read from it
    for tensor in all_tensors(model, limits):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.raw_data = _read_external(tensor, folder, unread)
            again = -sum(left for left in unread.values() if left < 0)
            if again > limits.made_bytes:
                raise EdgeccError("E101", f"tensors take {again} bytes that others have taken before; the limit is {limits.made_bytes}",
                                  where=f"tensor '{printable(tensor.name)}'", hint=raised("made_bytes"))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]


def _read_external(tensor: onnx.TensorProto, folder: Path | None, unread: dict[Path, int]) -> bytes:
    """The bytes of a tensor, which are taken from `unread`."""
    where = f"tensor '{printable(tensor.name)}'"
    entries = {entry.key: entry.value for entry in tensor.external_data if entry.key in ("location", "offset", "length")}
    location = entries.get("location", "")
    if folder is None:
        raise EdgeccError("E103", "the model keeps weights in another file, and its folder is not known", where=where,
                          hint="pass the path of the model instead of its bytes")
    if tensor.data_type == onnx.TensorProto.STRING or stored_bytes(tensor) == 0 != len(tensor.dims):
        if 0 in tensor.dims:
            return b""
        raise EdgeccError("E103", f"elements of type {tensor.data_type} cannot be kept in another file", where=where)
    needed = stored_bytes(tensor)
    offset = _number(entries.get("offset", "0"), "offset", where)
    length = _number(entries.get("length", str(needed)), "length", where)
    if length != needed:
        raise EdgeccError("E103", f"length is {length} bytes; its shape needs {needed}", where=where)
    path = _confined(folder, location, where)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise EdgeccError("E103", f"cannot read '{printable(location)}': {error.strerror}", where=where) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise EdgeccError("E103", f"'{printable(location)}' is not a plain file (links are refused)", where=where)
        if offset + length > status.st_size:
            raise EdgeccError("E103", f"'{printable(location)}' has {status.st_size} bytes; "
                                      f"{offset + length} are needed", where=where)
        unread[path] = unread.get(path, status.st_size) - length
        with open(descriptor, "rb", closefd=False) as file:
            file.seek(offset)
            data = file.read(length)
    finally:
        os.close(descriptor)
    if len(data) != length:
        raise EdgeccError("E103", f"'{printable(location)}' ended early", where=where)
    return data


def _number(text: str, key: str, where: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise EdgeccError("E103", f"{key} '{printable(text)}' is not a number of bytes", where=where)
    return int(text)


def _confined(folder: Path, location: str, where: str) -> Path:
    """The path of `location` inside `folder`, each part of it checked to be no link."""
    parts = location.split("/")
    unsafe = "\\" in location or "\0" in location or ":" in location or location.startswith("/")
    if not location or unsafe or any(part == ".." for part in parts):
        raise EdgeccError("E103", f"'{printable(location)}' is not a file inside the model's folder", where=where)
    path = folder
    for part in parts:
        if part in ("", "."):
            continue
        path = path / part
        try:
            linked = path.is_symlink()
        except OSError as error:  # a path too long for the system
            raise EdgeccError("E103", f"cannot read '{printable(location)}': {error.strerror}", where=where) from error
        if linked:
            raise EdgeccError("E103", f"'{printable(location)}' goes through a link", where=where)
    return path
