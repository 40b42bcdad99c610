"""The run of a network as an LLVM function: checks, calls, stripes, branches and loops."""

from __future__ import annotations

from collections.abc import Sequence

from edgecc.backends.c.control import LOOP_STATUS, can_exceed, can_miss
from edgecc.backends.llvm.checks import IndexChecks
from edgecc.backends.llvm.profile import RunProfile
from edgecc.backends.llvm.sizes import computed_size, dim_value, read_sizes, write_shapes
from edgecc.backends.llvm.writer import Argument, Shared, Writer
from edgecc.errors import EdgeccError
from edgecc.loop.module import (
    ArenaBytes,
    Branch,
    Call,
    Copy,
    InputBytes,
    Interface,
    Item,
    Module,
    OutputBytes,
    Repeat,
    RowBytes,
    SetSize,
    Stripes,
    WeightBytes,
)
from edgecc.loop.module import Argument as Address


class RunWriter:
    """Writes `NAME_run`.

    Args:
        module: the network.
        shared: what functions of the LLVM module share.
        weights: the symbol of the weights, or of the pointer to them.
        weights_given: whether the weights are given at run time, so that the symbol is a pointer to them.
        profile: whether a counter is read around each call.
    """

    def __init__(self, module: Module, shared: Shared, weights: str, *, weights_given: bool, profile: bool = False) -> None:
        self.module = module
        self.w = Writer(shared)
        self._weights, self._given = weights, weights_given
        self._profile = RunProfile(self.w, module.name, len(module.all_calls)) if profile else None
        self._tables: list[str] = []
        self._iterations: list[str] = []
        self._checks = IndexChecks(module, shared)
        self._sizes: dict[str, str] = {}
        self._bases: dict[type, str] = {}
        self._inputs: list[str] = []
        self._outputs: list[str] = []

    def text(self) -> str:
        """The function, and the tables and functions that it uses."""
        w, module = self.w, self.module
        if module.arena_bytes > 0:
            address = w.let("ptrtoint ptr %arena to i64")
            loose = w.op("icmp ne", "i64", w.op("and", "i64", address, str(module.arena_align - 1)), "0")
            self._stop_if(w.op("or", "i1", w.op("icmp eq", "ptr", "%arena", "null"), loose), 1)
        self._inputs, input_dims = self._members("%in", module.inputs)
        self._outputs, output_dims = self._members("%out", module.outputs)
        for ports, pointers in ((module.inputs, self._inputs), (module.outputs, self._outputs)):
            for port, pointer in zip(ports, pointers, strict=True):
                if port.type.largest.packed_bytes:
                    self._stop_if(w.op("icmp eq", "ptr", pointer, "null"), 2)
        if module.is_open:
            self._sizes = read_sizes(w, module, input_dims, output_dims, self._stop_if)
        weights = f"@{self._weights}"
        if module.weights_bytes > 0 and self._given:
            weights = w.let(f"load ptr, ptr {weights}", "weights")
            self._stop_if(w.op("icmp eq", "ptr", weights, "null"), 3)
        self._bases = {ArenaBytes: "%arena", WeightBytes: weights}
        if self._profile:
            self._profile.begin()
        self._items(module.calls)
        if self._profile:
            self._profile.end()
        write_shapes(w, module, output_dims, self._sizes, computed=True)
        w.emit("ret i32 0")
        return "\n".join([*self._tables, *self._checks.definitions, *([self._profile.definitions] if self._profile else []),
                          f"define i32 @{module.name}_run(ptr %in, ptr %out, ptr %arena) nounwind {{\n{w.text}}}\n"])

    # -- arguments ----------------------------------------------------------------------------------

    def _members(self, struct: str, ports: Sequence[Interface]) -> tuple[list[str], dict[int, str]]:
        """The pointers to arrays in a struct of inputs or outputs, and those to shapes that the run decides."""
        arrays, dims, member = [], {}, 0
        for number, port in enumerate(ports):
            arrays.append(self._member(struct, member))
            member += 1
            if not port.type.is_static:
                dims[number] = self._member(struct, member)
                member += 1
        return arrays, dims

    def _member(self, struct: str, number: int) -> str:
        place = struct if number == 0 else self.w.let(f"getelementptr ptr, ptr {struct}, i64 {number}")
        return self.w.let(f"load ptr, ptr {place}", "array")

    def _address(self, argument: Address, *, writes: bool) -> str:
        base = argument.base if isinstance(argument, RowBytes) else argument
        if writes and isinstance(base, InputBytes | WeightBytes):
            raise EdgeccError("E900", "LLVM back end: a kernel writes to an input of the network or to the weights")
        match base:
            case InputBytes(index=index):
                pointer = self._inputs[index]
            case OutputBytes(index=index):
                pointer = self._outputs[index]
            case _:
                pointer = self._bases[type(base)]
        pointer = self._moved(pointer, str(base.offset))
        for depth, step in argument.steps if isinstance(argument, RowBytes) else ():
            if step:
                pointer = self._moved(pointer, self.w.op("mul", "i64", self._iterations[depth], str(step)))
        return pointer

    def _moved(self, pointer: str, distance: str) -> str:
        return pointer if distance == "0" else self.w.let(f"getelementptr i8, ptr {pointer}, i64 {distance}")

    # -- items ----------------------------------------------------------------------------------------

    def _items(self, items: Sequence[Item]) -> None:
        for item in items:
            match item:
                case Call():
                    self._call(item, [("i64", dim_value(self.w, size, self._sizes)) for size in item.sizes])
                case Stripes():
                    self._stripes(item)
                case Branch():
                    self._branch(item)
                case Repeat():
                    self._repeat(item)
                case SetSize():
                    value = self.w.let(f"load i64, ptr {self._address(item.source, writes=False)}", "size")
                    self._sizes[item.symbol.name] = computed_size(self.w, item, value, self._stop_if)

    def _call(self, call: Call, integers: Sequence[Argument]) -> None:
        function = self.module.function(call.function)
        if len(function.buffers) != len(call.arguments) or len(function.parameters) != len(integers):
            raise EdgeccError("E900", f"LLVM back end: a call of {call.function} has {len(call.arguments)} arguments "
                              f"for {len(function.buffers)} buffers and {len(function.parameters)} parameters")
        if call.loc:
            self.w.comment(", ".join(call.loc))
        for argument, indices in call.checks:
            fits = self._checks.call(self.w, self._address(argument, writes=False), indices, self._sizes)
            self._stop_if(self.w.op("xor", "i1", fits, "true"), self._checks.status)
        arguments = [("ptr", self._address(argument, writes=buffer.role != "input"))
                     for argument, buffer in zip(call.arguments, function.buffers, strict=True)]
        begin = self._profile.call_begins() if self._profile else ""
        self.w.call_void(f"{self.module.name}_{call.function}", *arguments, *integers, internal=True)
        if self._profile:
            self._profile.call_ends(begin)

    def _stripes(self, stripes: Stripes) -> None:
        """A loop over the stripes: the rows at which each kernel begins and ends stand in a table."""
        w, width = self.w, len(stripes.calls)
        rows = ((0,) * width, *stripes.ends)
        name = f"rows_{len(self._tables)}"
        numbers = ", ".join(f"i64 {row}" for line in rows for row in line)
        self._tables.append(f"; where each stripe begins, for each of its kernels, and in the last line where all end\n"
                            f"@{name} = internal constant [{len(rows) * width} x i64] [{numbers}]\n")
        head, body, done = (w.fresh(f"stripe_{part}") for part in ("loop", "body", "done"))
        before = w.block
        w.emit(f"br label %{head}")
        w.start(head)
        stripe, place = f"%{w.fresh('stripe')}", w.reserve()
        w.emit(f"br i1 {w.op('icmp slt', 'i64', stripe, str(len(stripes.ends)))}, label %{body}, label %{done}")
        w.start(body)
        line = w.let(f"getelementptr [{width} x i64], ptr @{name}, i64 {stripe}", "row")
        for column, call in enumerate(stripes.calls):
            start, stop = (w.let(f"load i64, ptr {w.let(f'getelementptr i64, ptr {line}, i64 {number}')}")
                           for number in (column, width + column))
            self._call(call, [("i64", start), ("i64", stop)])
        following = w.op("add", "i64", stripe, "1")
        w.emit(f"br label %{head}")
        w.fill(place, f"{stripe} = phi i64 [ 0, %{before} ], [ {following}, %{w.block} ]")
        w.start(done)

    def _branch(self, item: Branch) -> None:
        w = self.w
        then, orelse, done = (w.fresh(part) for part in ("then", "else", "end"))
        if item.loc:
            w.comment(", ".join(item.loc))
        w.emit(f"br i1 {self._bool(item.condition)}, label %{then}, label %{orelse}")
        for label, items in ((then, item.then), (orelse, item.otherwise)):
            w.start(label)
            self._items(items)
            w.emit(f"br label %{done}")
        w.start(done)

    def _repeat(self, item: Repeat) -> None:
        """A loop with the copies of states and the checks of its bounds; `go` says whether an iteration may follow."""
        w = self.w
        if item.loc:
            w.comment(", ".join(item.loc))
        trips = str(max(0, item.trips)) if isinstance(item.trips, int) else w.let(
            f"load i64, ptr {self._address(item.trips, writes=False)}", "trips")
        first = self._known(item.condition)
        self._copies(item.before)
        head, test, body, done = (w.fresh(f"repeat_{part}") for part in ("loop", "test", "body", "done"))
        before = w.block
        w.emit(f"br label %{head}")
        w.start(head)
        count, go = f"%{w.fresh('iteration')}", f"%{w.fresh('go')}"
        count_place, go_place = w.reserve(), w.reserve()
        due = w.op("icmp slt", "i64", count, trips)
        w.emit(f"br i1 {w.op('and', 'i1', due, go)}, label %{test}, label %{done}")
        w.start(test)
        if can_exceed(item):
            self._stop_if(w.op("icmp eq", "i64", count, str(item.limit)), LOOP_STATUS)
        w.emit(f"br label %{body}")
        w.start(body)
        self._iterations.append(count)
        if item.counter is not None:
            w.emit(f"store i64 {count}, ptr {self._address(item.counter, writes=True)}")
        self._items(item.body)
        again = self._known(item.again)
        self._copies(item.after)
        self._iterations.pop()
        following = w.op("add", "i64", count, "1")
        w.emit(f"br label %{head}")
        w.fill(count_place, f"{count} = phi i64 [ 0, %{before} ], [ {following}, %{w.block} ]")
        w.fill(go_place, f"{go} = phi i1 [ {first}, %{before} ], [ {again}, %{w.block} ]")
        w.start(done)
        if can_miss(item):
            self._stop_if(w.op("icmp ne", "i64", count, str(item.rows)), LOOP_STATUS)
        for argument, row_bytes in item.zeros:
            if row_bytes:
                start = self._moved(self._address(argument, writes=True), w.op("mul", "i64", count, str(row_bytes)))
                left = w.op("mul", "i64", w.op("sub", "i64", str(item.limit), count), str(row_bytes))
                w.call_void("llvm.memset.p0.i64", ("ptr", start), ("i8", "0"), ("i64", left), ("i1", "false"))

    def _copies(self, copies: Sequence[Copy]) -> None:
        for copy in copies:
            self.w.call_void("llvm.memcpy.p0.p0.i64", ("ptr", self._address(copy.target, writes=True)),
                             ("ptr", self._address(copy.source, writes=False)), ("i64", str(copy.size_bytes)), ("i1", "false"))

    def _known(self, condition: Address | bool) -> str:
        return str(condition).lower() if isinstance(condition, bool) else self._bool(condition)

    def _bool(self, argument: Address) -> str:
        byte = self.w.let(f"load i8, ptr {self._address(argument, writes=False)}")
        return self.w.op("icmp ne", "i8", byte, "0")

    def _stop_if(self, condition: str, status: int) -> None:
        """Ends the run with a status where the condition holds."""
        w = self.w
        stop, go_on = w.fresh("stop"), w.fresh("go_on")
        w.emit(f"br i1 {condition}, label %{stop}, label %{go_on}")
        w.start(stop)
        w.emit(f"ret i32 {status}")
        w.start(go_on)
