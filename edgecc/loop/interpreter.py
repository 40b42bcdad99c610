"""The interpreter of the Loop IR: slow, exact, and suspicious.

It decides what a loop program means: arithmetic.py what each operation gives, access.py which loads and
stores are errors, and this module everything else. Both arms of `select` are evaluated, so loads inside
them must be in bounds. The iterations of parallel loops run from last to first.

A function is translated to Python source once and run on numpy scalars (one lane) and arrays (more).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.packing import pack, unpack
from edgecc.ir.strings import zeros
from edgecc.ir.types import Array, DType
from edgecc.loop.access import Race, loader, storer
from edgecc.loop.arithmetic import caster, from_int, horizontal, operation
from edgecc.loop.index import Index, IndexOf, IndexOp, LoopVar
from edgecc.loop.ir import (
    Assign,
    Barrier,
    Bitcast,
    Body,
    Broadcast,
    Buffer,
    Cast,
    Comment,
    Const,
    Declare,
    Expr,
    For,
    FromIndex,
    Function,
    Horizontal,
    If,
    Lane,
    Let,
    Load,
    Op,
    Prefetch,
    Ref,
    Reload,
    Stmt,
    Store,
)
from edgecc.loop.module import (
    ArenaBytes,
    Argument,
    Branch,
    Call,
    Copy,
    InputBytes,
    Item,
    Module,
    OutputBytes,
    Repeat,
    RowBytes,
    StringCall,
    Stripes,
    WeightBytes,
)
from edgecc.loop.string_interpreter import RunStrings
from edgecc.loop.text import statement_text
from edgecc.ops.string_handles import ReadStrings, WriteStrings

_GARBAGE = 0xA5  # memory that nothing has written; far from zero in every type
_LEAST = 16  # bytes of a memory that holds nothing: kernels declare at least one element of each buffer


def run_function(function: Function, buffers: Mapping[str, Array], parameters: Mapping[str, int] = MappingProxyType({})) -> None:
    """Runs a function on one-dimensional arrays, one for each of its buffers, in place.

    `parameters` has a value for each parameter. An output that shares memory with an input counts as
    written from the start.
    Raises: EdgeccError E904 for an access outside a buffer, a read of what was never written, a race
    between iterations of a parallel loop, arrays that do not fit the buffers, parameters that are
    missing or out of bounds, or an undefined local.
    """
    missing = [b.name for b in function.buffers if b.name not in buffers]
    if missing:
        raise EdgeccError("E904", f"{function.name}: no array for {', '.join(missing)}")
    absent = [p.name for p in function.parameters if p.name not in parameters]
    if absent:
        raise EdgeccError("E904", f"{function.name}: no value for {', '.join(absent)}")
    CompiledFunction(function).run([buffers[b.name] for b in function.buffers],
                                   parameters=[parameters[p.name] for p in function.parameters])


def run_module(module: Module, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Runs a whole network on row-major inputs; returns its outputs by name.

    Reads of arena bytes that no call has written are errors, as in `run_function`.
    Raises: EdgeccError E005 where `inputs` do not fit; E904 as `run_function` does, and where an argument
    lies outside its memory or is less aligned than the function's buffer promises; E402 where a loop
    leaves its bounds.
    """
    run = _Run(_Memory(module, inputs), {f.name: CompiledFunction(f) for f in module.functions})
    run.items(module.calls)
    return run.memory.outputs()


@dataclass(frozen=True)
class _Run:
    """One run of a network: the memory it works in, and its functions."""

    memory: _Memory
    functions: Mapping[str, CompiledFunction]

    def items(self, items: Sequence[Item]) -> None:
        """Runs items in order."""
        for item in items:
            match item:
                case Call():
                    self._call(item)
                case Stripes():
                    for call, start, stop in item.ranges():
                        self._call(call, start, stop)
                case Branch():
                    self.items(item.then if self.memory.scalar(item.condition, DType.BOOL) else item.otherwise)
                case StringCall():
                    self.memory.run_strings(item)
                case Repeat():
                    self._finish(item, self._iterate(item))

    def _call(self, call: Call, *parameters: int) -> None:
        function = self.functions[call.function]
        arrays, masks = [], []
        for buffer, argument in zip(function.function.buffers, call.arguments, strict=True):
            data, mask = self.memory.view(buffer, argument, f"call of {call.function} for {', '.join(call.loc)}")
            arrays.append(data)
            masks.append(mask)
        function.run(arrays, masks, parameters)

    def _iterate(self, item: Repeat) -> int:
        """Runs the iterations of a loop; returns how many they were."""
        memory = self.memory
        trips = item.trips if isinstance(item.trips, int) else memory.scalar(item.trips, DType.I64)
        go_on = item.condition if isinstance(item.condition, bool) else memory.scalar(item.condition, DType.BOOL)
        memory.copy(item.before)
        iteration = 0
        while go_on and iteration < trips:
            if iteration == item.limit:
                raise EdgeccError("E402", f"more than {item.limit} iterations", where=", ".join(item.loc))
            memory.iterations[item.depth:] = [iteration]
            if item.counter is not None:
                memory.store(item.counter, iteration)
            self.items(item.body)
            go_on = item.again if isinstance(item.again, bool) else memory.scalar(item.again, DType.BOOL)
            memory.copy(item.after)
            iteration += 1
        del memory.iterations[item.depth:]
        return iteration

    def _finish(self, item: Repeat, iterations: int) -> None:
        """Checks or fills the rows that no iteration wrote."""
        if item.rows is not None and iterations != item.rows and not item.padded:
            raise EdgeccError("E402", f"{iterations} iterations for {item.rows} rows", where=", ".join(item.loc))
        for argument, row_bytes in item.zeros:
            data, mask = self.memory.bytes_at(argument, item.limit * row_bytes)
            data[iterations * row_bytes:] = 0
            if mask is not None:
                mask[iterations * row_bytes:] = True


# -- memory -----------------------------------------------------------------------------------


class _Memory:
    """The bytes a network runs in, each with a flag that tells whether it was written."""

    def __init__(self, module: Module, inputs: Mapping[str, Array]) -> None:
        self.module = module
        self.strings = None if module.strings is None else RunStrings(module.strings)
        self.given, self.written = inputs, dict[int, Array]()
        self.input_bytes = [self._input(i.name, i.type.dtype, i.type.dims, inputs) for i in module.inputs]
        self.output_bytes = [np.full(max(_LEAST, o.type.packed_bytes), _GARBAGE, np.uint8) for o in module.outputs]
        self.arena = np.full(max(_LEAST, module.arena_bytes), _GARBAGE, np.uint8)
        self.weights = np.zeros(max(_LEAST, module.weights_bytes), np.uint8)
        for constant in module.constants:
            raw = np.frombuffer(constant.data.tobytes(), np.uint8)
            self.weights[constant.offset:constant.offset + raw.size] = raw
        self.weights.setflags(write=False)
        self.output_masks = [np.zeros(b.size, np.bool_) for b in self.output_bytes]
        self.arena_mask = np.zeros(self.arena.size, np.bool_)
        self.iterations: list[int] = []
        """Numbers of the iterations of the loops that are going on, outermost first."""

    @staticmethod
    def _input(name: str, dtype: DType, dims: tuple[int, ...], inputs: Mapping[str, Array]) -> Array:
        array = inputs.get(name)
        if array is None or array.dtype != dtype.numpy or array.shape != dims:
            got = "is missing" if array is None else f"is {array.dtype}{list(array.shape)}"
            raise EdgeccError("E005", f"input {name} {got}, the network wants {dtype.value}{list(dims)}")
        if dtype is DType.STRING:
            return np.zeros(max(_LEAST, dtype.size * array.size), np.uint8)
        return np.frombuffer(pack(np.ascontiguousarray(array)).tobytes() or bytes(_LEAST), np.uint8)

    def _memory(self, argument: Argument) -> tuple[Array, Array | None, int]:
        """The memory an argument lies in, its flags (None: everything is written), and the offset there."""
        match argument:
            case RowBytes(base=base, steps=steps):
                data, mask, offset = self._memory(base)
                return data, mask, offset + sum(step * self.iterations[depth] for depth, step in steps)
            case InputBytes(index=index, offset=offset):
                return self.input_bytes[index], None, offset
            case OutputBytes(index=index, offset=offset):
                return self.output_bytes[index], self.output_masks[index], offset
            case ArenaBytes(offset=offset):
                return self.arena, self.arena_mask, offset
            case WeightBytes(offset=offset):
                return self.weights, None, offset

    def bytes_at(self, argument: Argument, size: int) -> tuple[Array, Array | None]:
        """`size` bytes of an argument and their flags. Raises: EdgeccError E904 where they are outside its memory."""
        data, mask, offset = self._memory(argument)
        if offset < 0 or offset + size > data.size:
            raise EdgeccError("E904", f"bytes {offset}..{offset + size} of {data.size} of {argument}")
        return data[offset:offset + size], None if mask is None else mask[offset:offset + size]

    def scalar(self, argument: Argument, dtype: DType) -> int:
        """The element at an address."""
        data, mask = self.bytes_at(argument, dtype.size)
        if mask is not None and not mask[0]:
            raise EdgeccError("E904", f"{argument} decides what runs and was never written")
        return int(np.frombuffer(data.tobytes(), dtype.numpy)[0])

    def store(self, argument: Argument, number: int) -> None:
        """Writes an i64."""
        data, mask = self.bytes_at(argument, 8)
        data[:] = np.frombuffer(np.array(number, np.int64).tobytes(), np.uint8)
        if mask is not None:
            mask[:] = True

    def copy(self, copies: Sequence[Copy]) -> None:
        """Copies bytes with their flags."""
        for item in copies:
            source, known = self.bytes_at(item.source, item.size_bytes)
            target, mask = self.bytes_at(item.target, item.size_bytes)
            target[:] = source
            if mask is not None:
                mask[:] = True if known is None else known

    def run_strings(self, call: StringCall) -> None:
        """Runs a step on strings: reads an input of the network, writes an output, or works on handles."""
        if self.strings is None or not isinstance(call.count, int):
            raise EdgeccError("E904", f"{call.op.name} in a module without strings, or on a number of them that the run decides")
        first, last = call.arguments[0], call.arguments[-1]
        if isinstance(call.op, WriteStrings) and isinstance(last, OutputBytes):
            handles, mask = self.bytes_at(first, 4 * call.count)
            if mask is not None and not mask[::4].all():  # the flag of an element is that of its first byte
                raise EdgeccError("E904", f"handles of output {last.index} were never written")
            self.written[last.index] = self.strings.strings_of(handles.view(np.uint32))
            self.output_masks[last.index][:] = True
            return
        if isinstance(call.op, ReadStrings) and isinstance(first, InputBytes):
            results = [self.strings.handles_of(self.given[self.module.inputs[first.index].name]).view(np.uint8)]
        else:
            results = self.strings.run(call, lambda operand, size: self.bytes_at(call.arguments[operand], size)[0])
        for argument, result in zip(call.results, results, strict=True):
            data, mask = self.bytes_at(argument, result.size)
            data[:] = result
            if mask is not None:
                mask[:] = True

    def view(self, buffer: Buffer, argument: Argument, where: str) -> tuple[Array, Array | None]:
        """The elements of one argument and their flags (None: everything is written)."""
        data, mask, offset = self._memory(argument)
        fixed = argument.base if isinstance(argument, RowBytes) else argument
        guaranteed = {ArenaBytes: self.module.arena_align, WeightBytes: buffer.align}.get(type(fixed), buffer.dtype.size)
        size = buffer.dtype.size
        end = offset + buffer.elements * size
        if offset < 0 or end > data.size:
            raise EdgeccError("E904", f"{buffer.name} takes bytes {offset}..{end} of {data.size} of {argument}", where=where)
        if offset % buffer.align or guaranteed < buffer.align:
            raise EdgeccError("E904", f"{buffer.name} must be aligned to {buffer.align} bytes, got {argument}", where=where)
        flags = None if mask is None else mask[offset:end:size]
        return data[offset:end].view(buffer.dtype.numpy), flags

    def outputs(self) -> dict[str, Array]:
        """The network's outputs; an element that was never written is an error."""
        out: dict[str, Array] = {}
        for index, (item, data, mask) in enumerate(zip(self.module.outputs, self.output_bytes, self.output_masks, strict=True)):
            size = item.type.packed_bytes
            missing = np.flatnonzero(~mask[:size:item.type.dtype.size])
            if missing.size:
                raise EdgeccError("E904", f"element {int(missing[0])} of output {item.name} was never written")
            if item.type.dtype is DType.STRING:
                out[item.name] = self.written.get(index, zeros((0,), DType.STRING)).reshape(item.type.dims)
                continue
            out[item.name] = unpack(data[:size], item.type.dtype, item.type.dims)
        return out


# -- functions --------------------------------------------------------------------------------


class CompiledFunction:
    """A function translated to Python, to be run any number of times."""

    def __init__(self, function: Function) -> None:
        self.function = function
        writer = _Writer(function)
        namespace: dict[str, Any] = writer.namespace
        exec(compile(writer.source, f"<loop program {function.name}>", "exec"), namespace)
        self._entry: Callable[..., None] = namespace["run"]

    def run(self, arrays: list[Array], masks: list[Array | None] | None = None, parameters: Sequence[int] = ()) -> None:
        """Runs on one array for each buffer and a number for each parameter; `masks` tell which elements are
        written, and are updated.

        Without masks inputs are taken as written, outputs and workspaces as not (unless they share
        memory with an input). With masks workspaces and results start as not written all the same.
        Raises: EdgeccError E904.
        """
        buffers = self.function.buffers
        if len(arrays) != len(buffers):
            raise EdgeccError("E904", f"{self.function.name} wants {len(buffers)} buffers, got {len(arrays)}")
        for buffer, array in zip(buffers, arrays, strict=True):
            if array.ndim != 1 or array.dtype != buffer.dtype.numpy or array.size < buffer.elements:
                raise EdgeccError("E904", f"{self.function.name}: {buffer.name} is {buffer.dtype.value}"
                                          f"[{buffer.elements}], got {array.dtype}{list(array.shape)}")
        wanted = self.function.parameters
        if len(parameters) != len(wanted) or not all(
                p.minimum <= value <= p.maximum for p, value in zip(wanted, parameters, strict=True)):
            bounds = ", ".join(f"{p.name} from {p.minimum} to {p.maximum}" for p in wanted) or "no parameters"
            raise EdgeccError("E904", f"{self.function.name} wants {bounds}, got {list(parameters)}")
        given = masks if masks is not None else [None] * len(buffers)
        local: list[Array | None] = []
        for position, (buffer, array) in enumerate(zip(buffers, arrays, strict=True)):
            if buffer.role == "input":
                local.append(given[position])
                continue
            shared = any(other.role == "input" and np.shares_memory(array, arrays[k])
                         for k, other in enumerate(buffers) if other.aliased and buffer.aliased)
            local.append(np.full(array.size, shared))
        with np.errstate(all="ignore"):
            self._entry(arrays, local, *parameters)
        for mask, written, buffer in zip(given, local, buffers, strict=True):
            if mask is not None and written is not None and buffer.role != "input":
                np.logical_or(mask, written[:mask.size], out=mask)


class _Writer:
    """Writes the Python source of one function. Names of locals and loop variables get prefixes."""

    def __init__(self, function: Function) -> None:
        self.function = function
        parallel = any(isinstance(s, For) and s.kind == "parallel" for s in function.body)
        self.namespace: dict[str, Any] = {"loader": loader, "storer": storer, "trunc": int, "Race": Race}
        signature = ", ".join(("arrays", "masks", *(f"i_{p.name}" for p in function.parameters)))
        self.lines = [f"def run({signature}):", "    race = Race(arrays)" if parallel else "    race = None"]
        self.statement: Stmt | None = None
        self.texts: dict[int, str] = {}
        self.defined: set[str] = set()
        self.buffers = {b.name: b for b in function.buffers}
        self.namespace["texts"] = self.texts
        for position, buffer in enumerate(function.buffers):
            arguments = f"arrays, masks, {position}, {buffer.elements}, {buffer.name!r}, texts, race"
            self.lines += [f"    load_{buffer.name} = loader({arguments})",
                           f"    store_{buffer.name} = storer({arguments})"]
        self._body(function.body, 1)
        self.source = "\n".join(self.lines) + "\n"

    def _body(self, body: Body, depth: int) -> None:
        pad = "    " * depth
        before = len(self.lines)
        for stmt in body:
            self.statement = stmt
            match stmt:
                case For(var=var, start=start, stop=stop, step=step, kind=kind, body=nested):
                    loop = f"range({self.index(start)}, {self.index(stop)}, {step})"
                    if kind == "parallel":
                        loop = f"race.iterations({loop})"
                    self.lines.append(f"{pad}for i_{var} in {loop}:")
                    self._body(nested, depth + 1)
                case Let(name=name, value=value) | Declare(name=name, value=value):
                    self.lines.append(f"{pad}r_{name} = {self.expr(value)}")
                    self.defined.add(name)
                case Assign(name=name, value=value):
                    self._known(name)
                    self.lines.append(f"{pad}r_{name} = {self.expr(value)}")
                case Store(buffer=buffer, index=index, value=value, stride=stride, valid=valid):
                    self._buffer(buffer, value.dtype)
                    self.lines.append(f"{pad}store_{buffer}({self.index(index)}, {value.lanes}, {stride}, {valid}, "
                                      f"{self.expr(value)}, {self._text()})")
                case If(condition=condition, then=then, orelse=orelse):
                    self.lines.append(f"{pad}if {self.expr(condition)}:")
                    self._body(then, depth + 1)
                    if orelse:
                        self.lines.append(f"{pad}else:")
                        self._body(orelse, depth + 1)
                case Barrier() | Reload() | Prefetch() | Comment():
                    pass
        if len(self.lines) == before:
            self.lines.append(f"{pad}pass")

    def _text(self) -> int:
        """The number under which the present statement can be shown."""
        number = id(self.statement)
        if number not in self.texts and self.statement is not None:
            self.texts[number] = statement_text(self.statement)
        return number

    def _known(self, name: str) -> None:
        if name not in self.defined:
            raise EdgeccError("E904", f"{self.function.name} uses {name} before it is defined")

    def _buffer(self, name: str, dtype: DType) -> None:
        buffer = self.buffers.get(name)
        if buffer is None or buffer.dtype is not dtype:
            has = "has no such buffer" if buffer is None else f"has it as {buffer.dtype.value}"
            raise EdgeccError("E904", f"{name} is accessed as {dtype.value}, {self.function.name} {has}")

    def _constant(self, value: object) -> str:
        name = f"k{len(self.namespace)}"
        self.namespace[name] = value
        return name

    def index(self, index: Index) -> str:
        """The index as a Python expression on ints."""
        parts = [str(index.const)] if index.const or not index.terms else []
        for atom, coefficient in index.terms:
            match atom:
                case LoopVar(name=name):
                    text = f"i_{name}"
                case IndexOp(op="floordiv", args=(a, b)):
                    text = f"(({self.index(a)}) // {b.const})"
                case IndexOp(op="mod", args=(a, b)):
                    text = f"(({self.index(a)}) % {b.const})"
                case IndexOp(op=op, args=(a, b)) if op in ("min", "max"):
                    text = f"{op}({self.index(a)}, {self.index(b)})"
                case IndexOf(expr=expr):
                    text = f"trunc({self.expr(expr)})"
                case _:
                    raise EdgeccError("E904", f"{self.function.name}: no index operation {atom}")
            parts.append(text if coefficient == 1 else f"{coefficient}*{text}")
        return " + ".join(parts)

    def expr(self, expr: Expr) -> str:
        """The expression as a Python expression on numpy scalars or arrays."""
        match expr:
            case Const(value=value, dtype=dtype, lanes=lanes):
                scalar = np.asarray(value).astype(dtype.numpy)
                return self._constant(scalar[()] if lanes == 1 else np.full(lanes, scalar, dtype.numpy))
            case Ref(name=name):
                self._known(name)
                return f"r_{name}"
            case Load(buffer=buffer, index=index, dtype=dtype, lanes=lanes, stride=stride, valid=valid):
                self._buffer(buffer, dtype)
                return f"load_{buffer}({self.index(index)}, {lanes}, {stride}, {valid}, {self._text()})"
            case Op(op=op, args=args, dtype=dtype):
                function = self._constant(operation(op, args[-1].dtype, dtype))
                return f"{function}({', '.join(self.expr(a) for a in args)})"
            case Cast(arg=arg, dtype=dtype):
                return f"{self._constant(caster(dtype))}({self.expr(arg)})"
            case Bitcast(arg=arg, dtype=dtype):
                return f"{self.expr(arg)}.view({self._constant(dtype.numpy)})"
            case Broadcast(arg=arg, lanes=lanes):
                full, dtype_name = self._constant(np.full), self._constant(arg.dtype.numpy)
                return f"{full}({lanes}, {self.expr(arg)}, {dtype_name})"
            case Lane(arg=arg, position=position):
                return f"{self.expr(arg)}[{position}]"
            case Horizontal(op=op, arg=arg):
                return f"{self._constant(horizontal(operation(op, arg.dtype, arg.dtype)))}({self.expr(arg)})"
            case FromIndex(index=index, dtype=dtype):
                return f"{self._constant(from_int(dtype))}({self.index(index)})"
