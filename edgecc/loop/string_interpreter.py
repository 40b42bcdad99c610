"""Steps on strings, as the interpreter of the Loop IR runs them: the strings of a run, and what each step makes of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.strings import encoded, is_string_array, string_array
from edgecc.ir.types import Array, DType
from edgecc.loop.module import StringCall, StringPool
from edgecc.ops.string_handles import HANDLE, OnHandles


class RunStrings:
    """The strings of one run by handle, and the room that is left for those it makes."""

    def __init__(self, pool: StringPool) -> None:
        self.texts = list(pool.constants)
        self.handles = {text: handle for handle, text in enumerate(self.texts)}
        self.room = pool.made_bytes
        self.capacity = pool.capacity

    def handles_of(self, strings: Array) -> Array:
        """The handles of strings, as a vector."""
        out = []
        for text in strings.reshape(-1):
            if text not in self.handles:
                self.handles[text] = len(self.texts)
                self.texts.append(text)
            out.append(self.handles[text])
        return np.array(out, HANDLE.numpy)

    def strings_of(self, handles: Array) -> Array:
        """The strings of handles, as a vector; what is no handle counts as that of the empty string."""
        return string_array([self.texts[h] if h < len(self.texts) else "" for h in handles.tolist()])

    def run(self, call: StringCall, read: Callable[[int, int], Array]) -> list[Array]:
        """The results of a step on handles, as bytes. `read` gives so many bytes of an operand by its number.

        Raises: EdgeccError E407 where the strings that are made need more room than there is.
        """
        if not isinstance(call.op, OnHandles) or not isinstance(call.count, int):
            raise EdgeccError("E900", f"{call.op.name} does not work on a known number of handles alone")
        given = call.op.op.operand_type
        held = HANDLE if given is DType.STRING else given
        operands = [read(i, held.size * call.count).view(held.numpy) for i in range(len(call.operands))]
        if given is DType.STRING:
            operands = [self.strings_of(handles) for handles in operands]
        return [self._made(result.reshape(-1)).view(np.uint8) if is_string_array(result) else np.frombuffer(result.tobytes(), np.uint8)
                for result in call.op.op.reference(operands)]

    def _made(self, strings: Array) -> Array:
        for text in strings:  # each is made before it is known whether there is one like it
            size = len(encoded(text)) + 1
            if size > self.room or (text not in self.handles and len(self.texts) == self.capacity):
                raise EdgeccError("E407", "the strings that the network makes need more memory than it has for them")
            if text not in self.handles:
                self.room -= size
                self.handles_of(string_array([text]))
        return self.handles_of(strings)
