"""What a profiled object has more: a counter read around each kernel call, and `NAME_get_profile`, as backends/c/profile.py has it."""

from __future__ import annotations

from edgecc.backends.llvm.machine import Machine
from edgecc.backends.llvm.writer import Writer

_TICKS = {
    "x86_64": "  call void @llvm.x86.sse2.lfence()\n  %ticks = call i64 @llvm.readcyclecounter()\n  call void @llvm.x86.sse2.lfence()\n",
    "aarch64": "  call void @llvm.aarch64.isb(i32 15)\n  %ticks = call i64 @llvm.read_volatile_register.i64(metadata !{!\"cntvct_el0\"})\n"
               "  call void @llvm.aarch64.isb(i32 15)\n",
}
"""The readings of backends/c/profile.py; barriers keep the work of a call on its side."""

_NEEDED = {
    "x86_64": (("llvm.x86.sse2.lfence", "void", []), ("llvm.readcyclecounter", "i64", [])),
    "aarch64": (("llvm.aarch64.isb", "void", ["i32"]), ("llvm.read_volatile_register.i64", "i64", ["metadata"])),
}
"""Intrinsics of the readings: name, result, parameters."""

_MONOTONIC = 1
"""CLOCK_MONOTONIC of Linux, which the triples of edgecc/backends/llvm/machine.py name."""


class RunProfile:
    """Writes the readings into the run of a network.

    Args:
        writer: that of the run.
        name: of the network.
        calls: how many kernel calls the run has; each is begun and ended once, in order.
    """

    def __init__(self, writer: Writer, name: str, calls: int) -> None:
        self.w, self._name, self._calls = writer, name, calls
        self._number = 0
        self._run = ("", "")
        writer.shared.declare("clock_gettime", "i32", ["i32", "ptr"])
        for function, result, parameters in _NEEDED[writer.machine.architecture]:
            writer.shared.declare(function, result, parameters)

    def begin(self) -> None:
        """Before the first call of a run."""
        nanoseconds = self.w.call("read_nanoseconds", "i64", internal=True)
        self._run = (self.w.call("read_ticks", "i64", internal=True), nanoseconds)

    def call_begins(self) -> str:
        """Before a call; the reading is for `call_ends`."""
        return self.w.call("read_ticks", "i64", internal=True)

    def call_ends(self, begin: str) -> None:
        """After a call."""
        self.w.call_void("note_call", ("i64", str(self._number)), ("i64", begin), internal=True)
        self._number += 1

    def end(self) -> None:
        """After the last call of a run."""
        ticks, nanoseconds = self._run
        self.w.call_void("note_end", ("i64", ticks), ("i64", nanoseconds), internal=True)

    @property
    def definitions(self) -> str:
        """The counters and the functions that read and fill them."""
        return _definitions(self._name, self._calls, self.w.machine)


def _definitions(name: str, calls: int, machine: Machine) -> str:
    return "\n".join([_figures(calls), _READ_NANOSECONDS, _read_ticks(machine), _NOTE_CALL, _note_end(calls), _get_profile(name)])


def _figures(calls: int) -> str:
    """What is kept between runs; `NAME_profile` of NAME.h among it."""
    counts = f"[{max(1, calls)} x i64]"
    return f"""; calls that run in stripes count as one: the time of a run is summed up in profile_now first
@profile_now = internal global {counts} zeroinitializer
@profile_total = internal global {counts} zeroinitializer
@profile_least = internal global {counts} zeroinitializer
@profile_runs = internal global i64 0
@profile_run_ticks = internal global i64 0
@profile_run_nanoseconds = internal global i64 0
@profile_figures = internal global {{ i64, i64, ptr, ptr, double }} {{ i64 {calls}, i64 0, ptr @profile_total, ptr @profile_least, double 0.0 }}
"""


_READ_NANOSECONDS = f"""define internal i64 @read_nanoseconds() nounwind {{
entry:
  %now = alloca {{ i64, i64 }}
  %status = call i32 @clock_gettime(i32 {_MONOTONIC}, ptr %now)
  %seconds = load i64, ptr %now
  %rest_at = getelementptr i64, ptr %now, i64 1
  %rest = load i64, ptr %rest_at
  %whole = mul i64 %seconds, 1000000000
  %total = add i64 %whole, %rest
  ret i64 %total
}}
"""


def _read_ticks(machine: Machine) -> str:
    return f"""define internal i64 @read_ticks() nounwind {{
entry:
{_TICKS[machine.architecture]}  ret i64 %ticks
}}
"""


_NOTE_CALL = """define internal void @note_call(i64 %call, i64 %begin) nounwind {
entry:
  %end = call i64 @read_ticks()
  %spent = sub i64 %end, %begin
  %at = getelementptr i64, ptr @profile_now, i64 %call
  %before = load i64, ptr %at
  %sum = add i64 %before, %spent
  store i64 %sum, ptr %at
  ret void
}
"""
"""Adds the time since `begin` to that of a call."""


def _note_end(calls: int) -> str:
    """Adds the times of a run to the figures: each call's own, least and total, and those of the whole."""
    return f"""define internal void @note_end(i64 %begin, i64 %begin_nanoseconds) nounwind {{
entry:
  %nanoseconds = call i64 @read_nanoseconds()
  %ticks = call i64 @read_ticks()
  %run_nanoseconds = sub i64 %nanoseconds, %begin_nanoseconds
  %run_ticks = sub i64 %ticks, %begin
  %nanoseconds_before = load i64, ptr @profile_run_nanoseconds
  %ticks_before = load i64, ptr @profile_run_ticks
  %all_nanoseconds = add i64 %nanoseconds_before, %run_nanoseconds
  %all_ticks = add i64 %ticks_before, %run_ticks
  store i64 %all_nanoseconds, ptr @profile_run_nanoseconds
  store i64 %all_ticks, ptr @profile_run_ticks
  %runs = load i64, ptr @profile_runs
  %is_first = icmp eq i64 %runs, 0
  br label %loop
loop:
  %call = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %call, {calls}
  br i1 %more, label %body, label %done
body:
  %now_at = getelementptr i64, ptr @profile_now, i64 %call
  %total_at = getelementptr i64, ptr @profile_total, i64 %call
  %least_at = getelementptr i64, ptr @profile_least, i64 %call
  %now = load i64, ptr %now_at
  %total = load i64, ptr %total_at
  %least = load i64, ptr %least_at
  %sum = add i64 %total, %now
  store i64 %sum, ptr %total_at
  %less = icmp ult i64 %now, %least
  %take = or i1 %less, %is_first
  %new_least = select i1 %take, i64 %now, i64 %least
  store i64 %new_least, ptr %least_at
  store i64 0, ptr %now_at
  %next = add i64 %call, 1
  br label %loop
done:
  %more_runs = add i64 %runs, 1
  store i64 %more_runs, ptr @profile_runs
  ret void
}}
"""


def _get_profile(name: str) -> str:
    return f"""define ptr @{name}_get_profile() nounwind {{
entry:
  %runs = load i64, ptr @profile_runs
  %ticks = load i64, ptr @profile_run_ticks
  %nanoseconds = load i64, ptr @profile_run_nanoseconds
  %runs_at = getelementptr {{ i64, i64, ptr, ptr, double }}, ptr @profile_figures, i32 0, i32 1
  store i64 %runs, ptr %runs_at
  %none = icmp eq i64 %ticks, 0
  %divisor = select i1 %none, i64 1, i64 %ticks
  %of_ticks = uitofp i64 %divisor to double
  %of_nanoseconds = uitofp i64 %nanoseconds to double
  %seconds = fmul double %of_nanoseconds, 1.000000e-09
  %quotient = fdiv double %seconds, %of_ticks
  %rate = select i1 %none, double 0.0, double %quotient
  %rate_at = getelementptr {{ i64, i64, ptr, ptr, double }}, ptr @profile_figures, i32 0, i32 4
  store double %rate, ptr %rate_at
  ret ptr @profile_figures
}}
"""
