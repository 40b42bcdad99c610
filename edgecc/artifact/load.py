"""`edgecc.load`: a compiled model as a Python callable.

An artifact folder is built (in a temporary folder) and executed; a shared library with ABI 1 is called
as it is. A folder for another machine runs under its target's emulator.
"""

from __future__ import annotations

import difflib
import statistics
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from edgecc.artifact import elf
from edgecc.artifact.abi import ModelStruct, TensorStruct
from edgecc.artifact.folder import Artifact, Manifest, read_manifest
from edgecc.artifact.runner import RUNNER_SOURCE, CodeExecutor, Executor, LibraryExecutor, ProcessExecutor
from edgecc.artifact.strings import result_array, result_memory
from edgecc.artifact.toolchain import (
    BuildOptions,
    build_executable,
    build_shared_library,
    find_compiler,
    find_emulator,
    runs_natively,
)
from edgecc.errors import EdgeccError, printable
from edgecc.ir.dims import lower_bound
from edgecc.ir.packing import pack
from edgecc.ir.strings import check_strings, is_string_array, sample_strings
from edgecc.ir.types import Array, DType, TensorType
from edgecc.loop.module import Interface


@dataclass(frozen=True)
class Port:
    """An input or output of a compiled model: its name in the ONNX model, element type and shape.

    Arrays have an element of their own in each place; between Python and the model those of less than 8 bits are packed.
    Where the shape differs from run to run, `shape` is the largest and `least` the smallest one; else `least` is ().
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    least: tuple[int, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether the shape differs from run to run."""
        return self.least != ()

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether a shape is within the bounds."""
        if not self.is_open:
            return shape == self.shape
        return len(shape) == len(self.shape) and all(a <= b <= c for a, b, c in zip(self.least, shape, self.shape, strict=True))

    @property
    def type(self) -> TensorType:
        """Element type and (largest) shape."""
        return TensorType(DType.from_numpy(self.dtype), self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the array as the model reads or writes it."""
        return self.type.packed_bytes

    def __str__(self) -> str:
        dims = [str(b) if a == b else f"{a}..{b}" for a, b in zip(self.least or self.shape, self.shape, strict=True)]
        return f"{self.dtype}[{','.join(dims)}]"


@dataclass(frozen=True)
class Timing:
    """Nanoseconds of each run of a benchmark."""

    times_ns: tuple[int, ...]

    @property
    def minimum_ns(self) -> int:
        """The quickest run."""
        return min(self.times_ns)

    @property
    def median_ns(self) -> float:
        """The middle of all runs."""
        return float(statistics.median(self.times_ns))


class Model:
    """A compiled model that can be run. Made by `load`; one run at a time, as it has one arena.

    Attributes:
        inputs, outputs: the interface.
        arena_bytes, weights_bytes: memory the model needs.
        code_bytes: machine code of the model, or None where the object format is not ELF.
        manifest: of the artifact, or None for a bare shared library.
    """

    def __init__(self, executor: Executor, inputs: Sequence[Port], outputs: Sequence[Port], *, arena_bytes: int,
                 weights_bytes: int, code_bytes: int | None, manifest: Manifest | None) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.arena_bytes = arena_bytes
        self.weights_bytes = weights_bytes
        self.code_bytes = code_bytes
        self.manifest = manifest
        self._executor = executor
        self._close = weakref.finalize(self, executor.close)

    def run(self, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
        """Runs one inference and returns the outputs by name.

        Raises: EdgeccError E005 where an array is missing, unknown, or of another type or shape.
        """
        arrays, results = check_inputs(self.inputs, inputs), self._results()
        if any(port.is_open for port in (*self.inputs, *self.outputs)):
            shapes = self._executor.run_open(arrays, [a.shape for a in arrays], [len(port.shape) for port in self.outputs], results)
            return {port.name: result_array(memory, port.type.with_shape(shape)).copy()
                    for port, shape, memory in zip(self.outputs, shapes, results, strict=True)}
        self._executor.run([pack(array) for array in arrays], results)
        return {port.name: result_array(array, port.type) for port, array in zip(self.outputs, results, strict=True)}

    def benchmark(self, count: int = 10, inputs: Mapping[str, npt.ArrayLike] | None = None) -> Timing:
        """Times `count` inferences on the same inputs (random ones if none are given), after one that is not counted.

        Under an emulator the figures are the emulator's, not the machine's.
        """
        if count < 1:
            raise EdgeccError("E001", f"a benchmark needs at least one run, got {count}")
        arrays = check_inputs(self.inputs, random_inputs(self.inputs) if inputs is None else inputs)
        if any(array.shape != port.shape for array, port in zip(arrays, self.inputs, strict=True)):
            raise EdgeccError("E005", "benchmarks run at the largest shapes; the inputs have others",
                              details=[f"{printable(port.name)}: wanted {list(port.shape)}" for port in self.inputs if port.is_open])
        arrays, results = [pack(array) for array in arrays], self._results()
        self._executor.run(arrays, results)
        return Timing(tuple(self._executor.benchmark(arrays, results, count)))

    @property
    def code(self) -> CodeExecutor | None:
        """What runs the model in this process, by addresses of arrays; None where it runs in another one."""
        return self._executor if isinstance(self._executor, CodeExecutor) else None

    def close(self) -> None:
        """Ends the process of an emulated model. Further runs are errors."""
        self._close()

    def _results(self) -> list[Array]:
        """Arrays as the model writes them: packed ones are rows of bytes."""
        return [result_memory(port.type) for port in self.outputs]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def load(source: str | Path | Artifact, *, cc: str | None = None, isolated: bool = False,
         flags: Sequence[str] = ()) -> Model:
    """Makes a compiled model callable.

    Args:
        source: an artifact folder, an `Artifact`, or a shared library with ABI 1.
        cc: the C compiler to build with (see `find_compiler`).
        isolated: run in a process of its own even on this machine, so that a crash is an error message.
        flags: further flags for the compiler, such as "-fsanitize=address".
    Raises: EdgeccError E007 (not an artifact), E400 (no compiler or emulator), E401 (it failed), E405 (for other tools).
    """
    if isinstance(source, Artifact):
        with tempfile.TemporaryDirectory(prefix="edgecc-load-") as scratch:
            return load(source.write(Path(scratch) / "artifact"), cc=cc, isolated=isolated, flags=flags)
    path = Path(source)
    if path.is_file():
        return _load_library(path)
    manifest = read_manifest(path)
    if not manifest.sources and not manifest.library:
        raise EdgeccError("E405", f"an artifact of back end {printable(manifest.backend)}, which is for other tools", where=printable(str(path)),
                          hint="`edgecc verify MODEL --backend NAME` runs a model where the back end has a simulator")
    inputs, outputs = ports_of(manifest.inputs), ports_of(manifest.outputs)
    native = runs_natively(manifest.target)
    ready = path / manifest.library if manifest.library and native and not isolated and not flags else None
    with tempfile.TemporaryDirectory(prefix="edgecc-load-") as scratch:
        if ready is not None and ready.is_file():
            executor: Executor = LibraryExecutor(ready)
            code_bytes = elf.code_bytes(ready.read_bytes())
        else:
            # An emulator that is missing is reported before minutes are spent on compiling.
            emulator = find_emulator(manifest.target)
            compiler = find_compiler(manifest.target, cc)
            is_open = ("-DEDGECC_OPEN",) if any(port.is_open for port in (*inputs, *outputs)) else ()
            options = BuildOptions(flags=(*is_open, *flags), threads=manifest.threads > 1)
            if native and not isolated:
                built = build_shared_library(compiler, path, manifest.sources, Path(scratch) / "model.so", options)
                executor = LibraryExecutor(built.output)
            else:
                built = build_executable(compiler, path, manifest.sources, Path(scratch) / "model", options,
                                         main=(RUNNER_SOURCE,))
                executor = ProcessExecutor((*emulator, str(built.output)), [p.size_bytes for p in inputs],
                                           [p.size_bytes for p in outputs])
            code_bytes = built.code_bytes
        # The library is mapped and the executable running by now: the files are no longer needed.
    if not manifest.weights.linked:
        executor.load_weights(_read_weights(path / manifest.weights.file))
    return Model(executor, inputs, outputs, arena_bytes=manifest.arena_bytes, weights_bytes=manifest.weights.size_bytes,
                 code_bytes=code_bytes, manifest=manifest)


def ports_of(interface: Iterable[Interface]) -> tuple[Port, ...]:
    """The interface of a compiled network in numpy's terms."""
    return tuple(Port(item.name, item.type.dtype.numpy, item.type.max_dims,
                      () if item.type.is_static else tuple(map(lower_bound, item.type.shape))) for item in interface)


def check_inputs(ports: Sequence[Port], inputs: Mapping[str, npt.ArrayLike]) -> list[Array]:
    """The arrays for `ports`, in their order, dense.

    Raises: EdgeccError E005 listing everything that does not fit.
    """
    problems, arrays = [], []
    names = [port.name for port in ports]
    for name in inputs:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            problems.append(f"{printable(name)}: the model has no such input"
                            + (f"; did you mean {printable(close[0])}?" if close else ""))
    for port in ports:
        if port.name not in inputs:
            problems.append(f"{printable(port.name)}: missing, the model wants {port}")
            continue
        array = np.asarray(inputs[port.name])
        if array.dtype.kind == "U":
            array = array.astype(object)
        if array.dtype.type is np.void and array.dtype.itemsize == port.dtype.itemsize:
            array = array.view(port.dtype)  # .npz files store bfloat16 as raw bytes
        if array.dtype != port.dtype or not port.takes(array.shape):
            got = f"{array.dtype}[{','.join(map(str, array.shape))}]"
            problems.append(f"{printable(port.name)}: got {got}, the model wants {port}")
            continue
        if is_string_array(array):
            check_strings(array, printable(port.name), "E005")
        # reshape: ascontiguousarray turns a scalar into an array of one element.
        arrays.append(np.ascontiguousarray(array).reshape(array.shape))
    if problems:
        raise EdgeccError("E005", "the inputs do not fit the model", details=problems)
    return arrays


def random_inputs(ports: Iterable[Port], seed: int = 0, ranges: Mapping[str, tuple[int, int]] | None = None) -> dict[str, Array]:
    """Reproducible inputs: standard normal floats, integers from `ranges` (both ends included), short strings.

    Integers without a range, which are often indices, and booleans are zeros and ones.
    """
    generator = np.random.default_rng(seed)
    values: dict[str, Array] = {}
    for port in ports:
        if port.type.dtype is DType.STRING:
            values[port.name] = sample_strings(port.shape, generator)
        elif DType.from_numpy(port.dtype).is_float:
            drawn = generator.standard_normal(port.shape)  # f8e8m0 has positive numbers only
            values[port.name] = np.asarray(np.abs(drawn) if DType.from_numpy(port.dtype) is DType.F8E8M0 else drawn).astype(port.dtype)
        else:
            low, high = (ranges or {}).get(port.name, (0, 1))
            values[port.name] = np.asarray(generator.integers(low, high, port.shape, endpoint=True)).astype(port.dtype)
    return values


def _read_weights(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EdgeccError("E007", f"the weights cannot be read: {error.strerror or error}",
                          where=printable(str(path))) from None


def _load_library(path: Path) -> Model:
    executor = LibraryExecutor(path)
    struct = executor.model
    inputs, outputs = ports_of_library(struct, path)
    least = executor.least_shapes([len(port.shape) for port in inputs])
    inputs = tuple(replace(port, least=dims) if dims != port.shape else port for port, dims in zip(inputs, least, strict=True)) if least else inputs
    if struct.init:
        executor.load_weights(_read_weights(path.parent / "weights.bin"))
    return Model(executor, inputs, outputs, arena_bytes=struct.arena_bytes, weights_bytes=struct.weights_bytes,
                 code_bytes=elf.code_bytes(path.read_bytes()), manifest=None)


def ports_of_library(struct: ModelStruct, path: Path) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Inputs and outputs of a loaded library; `path` names it in errors.

    Raises: EdgeccError E007 where it uses an element type that is not known.
    """
    return (tuple(_port_from(struct.inputs[i], path) for i in range(struct.n_inputs)),
            tuple(_port_from(struct.outputs[i], path) for i in range(struct.n_outputs)))


def _port_from(struct: TensorStruct, path: Path) -> Port:
    dtype = DType.from_code(struct.dtype)
    if dtype is None:
        raise EdgeccError("E007", f"the library uses element type {struct.dtype}, which is unknown", where=printable(str(path)))
    return Port(struct.name.decode("utf-8", "replace"), dtype.numpy, tuple(struct.dims[i] for i in range(struct.rank)))
