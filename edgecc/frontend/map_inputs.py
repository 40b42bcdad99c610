"""Inputs that map keys to values, as tensors with one column for each key.

A map has no fixed size, and code for a device no dictionaries. But operators that read maps look for keys that the model knows: the
vocabulary of a DictVectorizer, the numbers below the `max_map` of a sparse CastMap. So the input becomes the tensor [1,keys] of the values
in that order; a key that a map lacks has the value 0 or the empty string, which is what those operators put there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.limits import Limits

DOMAIN = "ai.onnx.ml"
SHOWN = 16
"""So many keys stand in a note."""


@dataclass(frozen=True)
class MapInput:
    """An input that is a map: what its columns stand for, and the tensor it becomes."""

    keys: tuple[int | str, ...]
    tensor: onnx.ValueInfoProto

    @property
    def note(self) -> str:
        """What a user has to know."""
        names = ", ".join(printable(str(key), 40) for key in self.keys[:SHOWN]) + (", ..." if len(self.keys) > SHOWN else "")
        return (f"input '{printable(self.tensor.name)}' is a map and becomes a tensor of {len(self.keys)} columns, one for each key, 0 where a map "
                f"lacks it: {names}")


def map_inputs(nodes: Sequence[onnx.NodeProto], inputs: Sequence[onnx.ValueInfoProto], limits: Limits) -> Mapping[str, MapInput]:
    """The inputs that are maps and whose keys their readers, which all have to agree, know.

    Raises: EdgeccError E101 for more keys than the limits allow elements.
    """
    found = {}
    for value in inputs:
        if value.type.WhichOneof("value") != "map_type":
            continue
        readers = [node for node in nodes if value.name in node.input]
        known = {keys_read(node) for node in readers}
        keys = known.pop() if len(known) == 1 else None
        if keys is None:
            continue
        limits.check_dims((1, len(keys)), f"the keys of input '{printable(value.name)}'")
        tensor = onnx.helper.make_tensor_value_info(value.name, value.type.map_type.value_type.tensor_type.elem_type, [1, len(keys)])
        found[value.name] = MapInput(keys, tensor)
    return found


def keys_read(node: onnx.NodeProto) -> tuple[int | str, ...] | None:
    """The keys that a node looks for in a map, in the order of its result; None where it says nothing about them."""
    if node.domain != DOMAIN:
        return None
    attributes = {attribute.name: attribute for attribute in node.attribute}
    match node.op_type:
        case "DictVectorizer":
            for name in ("string_vocabulary", "int64_vocabulary"):
                if name in attributes:
                    words = attributes[name]
                    return tuple(word.decode("utf-8", "replace") for word in words.strings) or tuple(words.ints)
        case "CastMap" if "map_form" in attributes and attributes["map_form"].s == b"SPARSE" and "max_map" in attributes:
            return _numbers(attributes["max_map"].i)
    return None


def _numbers(count: int) -> tuple[int, ...]:
    if not 0 < count <= 1 << 20:
        raise EdgeccError("E102", f"max_map is {count}, wanted 1 to {1 << 20}")
    return tuple(range(count))
