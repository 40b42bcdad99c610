"""jam: unrolls an outer loop and runs its copies side by side in the inner loops."""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.loop.ir import Body, Function
from edgecc.loop.rewrite import interleave, rewrite_loops
from edgecc.passes.loop.base import LoopPass
from edgecc.passes.loop.unroll import unrolled


@dataclass(frozen=True)
class Jam(LoopPass):
    """for i in 0..2: acc = 0; for k: acc += x[i,k]; y[i] = acc
       ->   acc_0 = 0; acc_1 = 0; for k: (acc_0 += x[0,k]; acc_1 += x[1,k]); y[0] = acc_0; y[1] = acc_1

    This is what turns a loop nest into a micro-kernel: every copy's accumulator is a register of its
    own and one inner loop feeds all of them (unroll-and-jam; Callahan, Carr and Kennedy, "Improving
    register allocation for subscripted variables", 1990).

    Takes for granted that the iterations are independent, and that inner loops have the same bounds in
    every copy (E900 otherwise).
    """

    name = "jam"
    loop: str

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        return rewrite_loops(body, self.loop, lambda loop: interleave(unrolled(loop)))
