"""Modelled cycles of every call of a lowered network, from the instructions of its function and the bytes it moves.

Other than the cycles by which a kernel is chosen among its candidates, which count multiply-adds and loads of a plan, these are
known of every call and count what stands in the program: conversions, roundings, tables. Networks of 8 bits and of floats
are compared by them.
"""

from __future__ import annotations

from edgecc.kernels.call_cost import call_cycles
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.loop_cycles import loop_cycles
from edgecc.lowering import LoweredModel
from edgecc.passes.loop import apply_schedule


def calls_cycles(lowered: LoweredModel) -> tuple[float, ...]:
    """Modelled cycles of each call, in the order of the run; those of a call in stripes are of all its stripes."""
    functions = {function.name: function for function in lowered.module.functions}
    known: dict[str, float] = {}
    found = []
    for call in lowered.calls:
        request = call.kernel.request
        if request is None:
            found.append(0.0)
            continue
        if call.function not in known:
            known[call.function] = loop_cycles(functions[call.function], request.target)
        found.append(call_cycles(request, known[call.function]))
    return tuple(found)


def kernel_cycles(kernel: Kernel) -> float:
    """Modelled cycles of one run of a kernel that a request was lowered to."""
    request = kernel.request
    return 0.0 if request is None else call_cycles(request, loop_cycles(apply_schedule(kernel.function, kernel.schedule), request.target))
