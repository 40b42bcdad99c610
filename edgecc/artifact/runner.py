"""Two ways to execute a built model: a shared library in this process, or an executable of its own.

Both take the input arrays in the order of the interface and fill the output arrays. The executable is
runner.c linked with the model; it runs under the target's emulator where the machine is another one,
and it stays alive between runs, so a stream of frames costs no start.
"""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgecc.artifact.abi import ABI_VERSION, Dims, ModelStruct, OpenModelStruct
from edgecc.artifact.process import DrivenProcess
from edgecc.artifact.strings import Memories, piped, read_piped
from edgecc.errors import EdgeccError, printable
from edgecc.ir.strings import is_string_array
from edgecc.ir.types import Array

RUNNER_SOURCE = Path(__file__).parent / "runner.c"
GREETING = b"EDGECC1\n"
RUN_TIMEOUT_SECONDS = 600.0
SHAPE_STATUS = 6
"""What `run` gives where the shapes of its inputs do not fit together, or the bounds of the model."""

LOOP_STATUS = 4
"""What `run` gives where a loop left its bounds."""

INDEX_STATUS = 5
"""What `run` gives where an index is out of range."""

COMPUTED_SIZE_STATUS = 7
"""What `run` gives where a size that it computes is not within its bounds."""

STRINGS_STATUS = 8
"""What `run` gives where the strings that it makes need more memory than there is."""

NO_NUMBER_STATUS = 9
"""What `run` gives where a string that is to be a number is none."""


class Executor(Protocol):
    """Runs a built model."""

    def load_weights(self, blob: bytes) -> None:
        """Passes the weights to the model's `init`, where it has one."""

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """One inference: reads `inputs` and fills `outputs`, all dense arrays of the interface's types."""

    def run_open(self, inputs: Sequence[Array], shapes: Sequence[tuple[int, ...]], ranks: Sequence[int],
                 outputs: Sequence[Array]) -> list[tuple[int, ...]]:
        """One inference of a model whose shapes differ from run to run, with inputs of these shapes.

        `ranks` are those of the outputs, whose arrays have their largest shapes; their elements fill the beginning of these. Returns
        the shape of each output.
        """

    def benchmark(self, inputs: Sequence[Array], outputs: Sequence[Array], count: int) -> list[int]:
        """Nanoseconds of each of `count` inferences on the same inputs."""

    def close(self) -> None:
        """Ends the execution; further runs are errors."""


def failed_status(status: int) -> EdgeccError:
    """The error for a nonzero result of `run`."""
    if status == LOOP_STATUS:
        return EdgeccError("E402", "a loop of the model ran longer than its limit, or not as often as the shapes of its results say",
                           hint="compile with a larger --limits trip_count=NUMBER, or check the inputs that decide when it ends")
    if status == INDEX_STATUS:
        return EdgeccError("E403", "an index that is computed at run time lies outside of its axis",
                           hint="look at the inputs that indices come from; --checks clamp moves indices into their axis")
    if status == COMPUTED_SIZE_STATUS:
        return EdgeccError("E406", "a size that is computed at run time is not within its bounds",
                           hint="look at the inputs that sizes come from, or raise the limit that bounds them")
    if status == STRINGS_STATUS:
        return EdgeccError("E407", "the strings that the model makes need more memory than it has for them",
                           hint="compile with a larger --limits string_bytes=NUMBER or string_parts=NUMBER, or give shorter strings")
    if status == NO_NUMBER_STATUS:
        return EdgeccError("E408", "a string that the model reads a number from is no number")
    if status == SHAPE_STATUS:
        return EdgeccError("E005", "the shapes of the inputs do not fit together, or are not within the bounds of the model")
    return EdgeccError("E401", f"the compiled model reported failure (status {status})")


def refused_weights(status: int) -> EdgeccError:
    """The error for a nonzero result of `init`."""
    return EdgeccError("E401", f"the compiled model refused its weights (status {status})",
                       hint="weights.bin belongs to the code it was written with")


# -- in this process --------------------------------------------------------------------------------


class CodeExecutor:
    """Code with ABI 1 in the memory of this process.

    Args:
        model: what its edgecc_get_model says.
        open_model: what its edgecc_get_open_model says, where shapes differ from run to run.
        code: what keeps the code in memory.
    Attributes:
        model: as given.
        arena, arena_address: the memory its runs use.
    """

    def __init__(self, model: ModelStruct, open_model: OpenModelStruct | None, code: object) -> None:
        self.model = model
        self.arena = aligned_bytes(model.arena_bytes, model.arena_align)
        self.arena_address = int(self.arena.ctypes.data)
        self._run = model.run  # each look into the structure makes a function anew
        self._open_model, self._code = open_model, code
        self._weights: Array | None = None

    def load_weights(self, blob: bytes) -> None:
        """See `Executor`."""
        if not self.model.init:
            return
        weights = aligned_bytes(len(blob), self.model.arena_align)
        weights[:] = np.frombuffer(blob, np.uint8)
        status = self.model.init(weights.ctypes.data, len(blob))
        if status:
            raise refused_weights(status)
        self._weights = weights  # the model keeps the pointer

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """See `Executor`."""
        self.benchmark(inputs, outputs, 1)

    def benchmark(self, inputs: Sequence[Array], outputs: Sequence[Array], count: int) -> list[int]:
        """See `Executor`. Includes the call from Python, about a microsecond."""
        memories = Memories(inputs, outputs)
        sources, sinks, arena = _pointers(_addresses(memories.inputs)), _pointers(_addresses(memories.outputs)), self.arena_address
        run, times = self._run, []
        for _ in range(count):
            start = time.perf_counter_ns()
            status = run(sources, sinks, arena)
            times.append(time.perf_counter_ns() - start)
            if status:
                raise failed_status(status)
        memories.finish()
        return times

    def call(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """One inference on dense arrays at these addresses, none of strings, which the caller keeps; the quickest way from Python."""
        status = self._run(_pointers(inputs), _pointers(outputs), self.arena_address)
        if status:
            raise failed_status(status)

    def call_open(self, inputs: Sequence[int], shapes: Sequence[Sequence[int]], ranks: Sequence[int], outputs: Sequence[int]) -> list[tuple[int, ...]]:
        """`run_open` on dense arrays at these addresses, none of strings."""
        if self._open_model is None:
            raise EdgeccError("E900", "the shapes of this model are the same in all runs")
        given = [(ctypes.c_int64 * max(1, len(shape)))(*shape) for shape in shapes]
        found = [(ctypes.c_int64 * max(1, rank))() for rank in ranks]
        status = self._open_model.run(_pointers(inputs), _dims_pointers(given), _pointers(outputs), _dims_pointers(found), self.arena_address)
        if status:
            raise failed_status(status)
        return [tuple(dims)[:rank] for dims, rank in zip(found, ranks, strict=True)]

    def least_shapes(self, ranks: Sequence[int]) -> list[tuple[int, ...]]:
        """The smallest shape of each input, given their ranks; () where the shapes are the same in all runs."""
        if self._open_model is None:
            return []
        least = self._open_model.least
        return [tuple(least[i][axis] for axis in range(rank)) for i, rank in enumerate(ranks)]

    def run_open(self, inputs: Sequence[Array], shapes: Sequence[tuple[int, ...]], ranks: Sequence[int],
                 outputs: Sequence[Array]) -> list[tuple[int, ...]]:
        """See `Executor`."""
        memories = Memories(inputs, outputs)
        results = self.call_open(_addresses(memories.inputs), shapes, ranks, _addresses(memories.outputs))
        memories.finish(results)
        return results

    def close(self) -> None:
        """See `Executor`. The code stays in memory: ctypes has no safe way to unload a library."""


class LibraryExecutor(CodeExecutor):
    """A shared library with ABI 1, called in this process.

    Attributes:
        library: the loaded library.
    Raises: EdgeccError E007 where the file is no such library.
    """

    def __init__(self, path: Path) -> None:
        where = printable(str(path))
        try:
            self.library = ctypes.CDLL(str(path.resolve()))
            get_model = self.library.edgecc_get_model
        except OSError as error:
            raise EdgeccError("E007", f"not a loadable shared library: {printable(str(error))}", where=where) from None
        except AttributeError:
            raise EdgeccError("E007", "the library does not export edgecc_get_model", where=where) from None
        get_model.restype = ctypes.POINTER(ModelStruct)
        model: ModelStruct = get_model().contents
        if model.abi != ABI_VERSION:
            raise EdgeccError("E007", f"the library has ABI {model.abi}, this version calls ABI {ABI_VERSION}",
                              where=where, hint="compile the model again")
        get_open = getattr(self.library, "edgecc_get_open_model", None)
        if get_open is not None:
            get_open.restype = ctypes.POINTER(OpenModelStruct)
        super().__init__(model, None if get_open is None else get_open().contents, self.library)


def aligned_bytes(size: int, align: int) -> Array:
    """`size` bytes at an address that is a multiple of `align` (at least 64), filled with 0xFF.

    Such bytes are NaN as floats, so that a model that reads what it never wrote is found out.
    """
    align = max(64, align)
    raw = np.full(size + align, 0xFF, np.uint8)
    skip = -raw.ctypes.data % align
    return raw[skip:skip + size]


def _addresses(arrays: Sequence[Array]) -> list[int]:
    return [array.ctypes.data for array in arrays]


def _pointers(addresses: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * max(1, len(addresses)))(*addresses)


def _dims_pointers(dims: Sequence[ctypes.Array[ctypes.c_int64]]) -> ctypes.Array[Any]:
    return (Dims * max(1, len(dims)))(*(ctypes.cast(d, Dims) for d in dims))


# -- in a process of its own ------------------------------------------------------------------------


class ProcessExecutor:
    """An executable built with runner.c, talked to through pipes.

    Args:
        command: the emulator with its arguments, if any, and the executable.
        input_bytes, output_bytes: sizes of the arrays, checked against what the executable says.
        timeout: seconds after which a silent process is stopped.
    Raises: EdgeccError E400 where the command cannot be started; E401 where it dies or is silent.
    """

    def __init__(self, command: Sequence[str], input_bytes: Sequence[int], output_bytes: Sequence[int],
                 timeout: float = RUN_TIMEOUT_SECONDS) -> None:
        self._process = DrivenProcess(command, timeout)
        try:
            with self._process.watch("starting"):
                if self._process.read(len(GREETING)) != GREETING:
                    raise EdgeccError("E401", f"{self._process.name} did not greet as expected")
                counts = struct.unpack("=II", self._process.read(8))
                sizes = struct.unpack(f"={sum(counts)}Q", self._process.read(8 * sum(counts)))
            if counts != (len(input_bytes), len(output_bytes)) or sizes != (*input_bytes, *output_bytes):
                raise EdgeccError("E401", f"{self._process.name} has arrays of other sizes than the manifest says")
        except BaseException:
            self.close()
            raise

    def load_weights(self, blob: bytes) -> None:
        """See `Executor`."""
        with self._process.watch("loading the weights"):
            self._process.write(b"W" + struct.pack("=Q", len(blob)))
            self._process.write(blob)
            self._check_status(refused_weights)

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """See `Executor`."""
        with self._process.watch("running"):
            self._process.write(b"R")
            for array in inputs:
                self._process.write(piped(array) if is_string_array(array) else _bytes_of(array).data)
            self._check_status()
            for array in outputs:
                read_piped(array, self._process.read)

    def run_open(self, inputs: Sequence[Array], shapes: Sequence[tuple[int, ...]], ranks: Sequence[int],
                 outputs: Sequence[Array]) -> list[tuple[int, ...]]:
        """See `Executor`."""
        with self._process.watch("running"):
            self._process.write(b"S")
            for array, shape in zip(inputs, shapes, strict=True):
                self._process.write(struct.pack(f"={len(shape)}q", *shape))
                if is_string_array(array):
                    self._process.write(piped(array))
                    continue
                self._process.write(struct.pack("=Q", array.nbytes))
                self._process.write(_bytes_of(array).data)
            self._check_status()
            results: list[tuple[int, ...]] = []
            for rank, array in zip(ranks, outputs, strict=True):
                results.append(struct.unpack(f"={rank}q", self._process.read(8 * rank)))
                read_piped(array, self._process.read, results[-1])
            return results

    def benchmark(self, inputs: Sequence[Array], outputs: Sequence[Array], count: int) -> list[int]:
        """See `Executor`. Measured inside the process; under an emulator this is the emulator's time."""
        self.run(inputs, outputs)
        with self._process.watch("running"):
            self._process.write(b"B" + struct.pack("=I", count))
            self._check_status()
            return list(struct.unpack(f"={count}Q", self._process.read(8 * count)))

    def close(self) -> None:
        """See `Executor`."""
        self._process.close()

    def _check_status(self, error: Callable[[int], EdgeccError] = failed_status) -> None:
        (status,) = struct.unpack("=i", self._process.read(4))
        if status:
            raise error(status)


def _bytes_of(array: Array) -> Array:
    """The memory of a dense array as bytes, without a copy."""
    return array.reshape(-1).view(np.uint8)
