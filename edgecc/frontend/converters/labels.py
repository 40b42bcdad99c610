"""Operators of the domain ai.onnx.ml that replace values by others: labels, categories, vocabularies."""

from __future__ import annotations

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.converters.classical import DOMAIN, labels_of
from edgecc.frontend.items import KeyedColumns
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, convert, literal
from edgecc.ir.strings import is_string_array, string_array
from edgecc.ir.types import Array, DType
from edgecc.ops.indexing import Gather
from edgecc.ops.reduction import Reduce

_MOST_KEYS = 1024
"""More keys would make the comparisons larger than tables are worth."""


def _mapped(call: Call, x: Value, keys: Array, values: Array, default: Array) -> Value:
    """The value of the key that an element equals, the first of equal ones; `default` where there is none."""
    keys, values = keys.reshape(-1), values.reshape(-1)
    if len(keys) != len(values) or len(keys) > _MOST_KEYS:
        raise Unsupported(f"{len(keys)} keys for {len(values)} values; the most keys are {_MOST_KEYS}")
    return call.add(Gather(0), call.constant(np.concatenate([values, default.reshape(1)])), _place(call, x, keys))


def _place(call: Call, x: Value, keys: Array) -> Value:
    """The position of the key that an element equals, the first of equal ones; their number where there is none.

    Keys are compared one after the other. NaN equals NaN.
    """
    if is_string_array(keys) != (x.type.dtype is DType.STRING):
        raise EdgeccError("E110", f"the keys do not have the type of the input, {x.type}")
    position = call.constant(np.arange(len(keys), dtype=np.int64))

    def hit(a: ScalarExpr, key: ScalarExpr, at: ScalarExpr) -> ScalarExpr:
        same = apply("eq", a, key)
        if a.dtype.is_float:
            same = apply("or", same, apply("and", apply("isnan", a), apply("isnan", key)))
        return apply("select", same, at, literal(len(keys), DType.I64))

    call.importer.limits.check_dims((*x.type.shape, len(keys)), "the comparisons with the keys")
    found = call.map(hit, call.reshape(x, (*x.type.shape, 1)), call.constant(keys.astype(x.type.dtype.numpy)), position)
    return call.add(Reduce("min", (x.type.rank,), keepdims=False), found)


def _given(call: Call, kind: str) -> Array:
    """The keys or values of a LabelEncoder: a tensor, or a list of one of three types."""
    floats, integers = call.floats(f"{kind}_floats"), call.ints(f"{kind}_int64s")
    for found in (call.tensor(f"{kind}_tensor"), call.string_data(f"{kind}_strings"),
                  None if integers is None else np.array(integers, np.int64), None if floats is None else np.array(floats, np.float32)):
        if found is not None:
            return found
    raise EdgeccError("E102", f"attribute {kind}_tensor or another of {kind} is missing")


@converter("LabelEncoder", domain=DOMAIN, since=2)
def _label_encoder(call: Call) -> Value:
    """The value of each key."""
    keys, values, other = _given(call, "keys"), _given(call, "values"), call.tensor("default_tensor")
    if other is not None:
        default = other.reshape(-1)[:1].astype(values.dtype)
    elif is_string_array(values):
        default = string_array([call.string_value("default_string", "_Unused")])
    else:
        number = call.number("default_float", -0.0) if values.dtype.kind == "f" else call.integer("default_int64", -1)
        default = np.array([number]).astype(values.dtype)
    if default.size != 1:
        raise EdgeccError("E102", "default_tensor has no element")
    return _mapped(call, call.input(), keys, values, default)


def _between(call: Call, strings: Array, numbers: Array) -> Value:
    """Strings as their numbers, or numbers as their strings, whichever the input is."""
    x = call.input()
    if x.type.dtype is DType.STRING:
        return _mapped(call, x, strings, numbers, np.array([call.integer("default_int64", -1)], np.int64))
    return _mapped(call, x, numbers, strings, string_array([call.string_value("default_string", "_Unused")]))


@converter("LabelEncoder", domain=DOMAIN, until=1)
def _label_encoder_1(call: Call) -> Value:
    classes = call.string_data("classes_strings")
    if classes is None:
        raise EdgeccError("E102", "attribute classes_strings is missing")
    return _between(call, classes, np.arange(len(classes), dtype=np.int64))


@converter("CategoryMapper", domain=DOMAIN)
def _category_mapper(call: Call) -> Value:
    strings, numbers = call.string_data("cats_strings"), call.ints("cats_int64s")
    if strings is None or numbers is None:
        raise EdgeccError("E102", "attributes cats_strings and cats_int64s are missing")
    return _between(call, strings, np.array(numbers, np.int64))


@converter("ZipMap", domain=DOMAIN)
def _zip_map(call: Call) -> KeyedColumns:
    """The columns named by their labels, for whoever reads the result; compiled code returns the numbers."""
    x, labels = call.input(), labels_of(call, "classlabels_int64s", "classlabels_strings")
    rows = call.reshape(x, (1, *x.type.shape)) if x.type.rank == 1 else x
    if rows.type.rank != 2 or rows.type.shape[1] != len(labels):
        raise EdgeccError("E110", f"{len(labels)} labels for the columns of {x.type}")
    call.importer.notes.append(f"{'+'.join(call.loc)}: the maps are returned as a tensor with a column for each of {printable(str(labels.tolist()), 200)}")
    return KeyedColumns(tuple(labels.tolist()), rows)


@converter("OneHotEncoder", domain=DOMAIN)
def _one_hot_encoder(call: Call) -> Value:
    """1 at the place of the category that an element equals, along a new last axis; without zeros=1 there must be one."""
    x, strings, numbers = call.input(), call.string_data("cats_strings"), call.ints("cats_int64s")
    if x.type.dtype is DType.STRING:
        categories = strings
    else:
        categories = None if numbers is None else np.array(numbers, np.int64)
        x = call.cast(x, DType.I64)
    if categories is None or not 0 < len(categories) <= _MOST_KEYS:
        raise EdgeccError("E102", f"the categories for {x.type} are missing, or more than {_MOST_KEYS}")
    call.importer.limits.check_dims((*x.type.shape, len(categories)), "the result of OneHotEncoder")
    if not call.flag("zeros", True):
        # What is no category has a position outside of this table, which ends the run.
        x, categories = call.add(Gather(0), call.positions(len(categories)), _place(call, x, categories)), np.arange(len(categories))
    return call.map(lambda a, c: convert(apply("eq", a, c), DType.F32), call.reshape(x, (*x.type.shape, 1)), call.constant(categories))
