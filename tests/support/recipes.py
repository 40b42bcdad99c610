"""What `Growth` adds to a graph: for every operator the ways in which people use it, with attributes and shapes at random.

A recipe looks for values that fit, and adds a node or a pattern of nodes, or nothing. What rounding decides (comparisons,
roundings, positions of extremes) reads exact values alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tests.support.growth import Growth, Known

Recipe = Callable[[Growth], object]

SMOOTH = ("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Erf", "Exp", "HardSwish", "Log", "Mish", "Neg", "Reciprocal", "Relu",
          "Sigmoid", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "Identity")
WITH_ATTRIBUTES = {"Celu": {"alpha": (0.5, 2.0)}, "Elu": {"alpha": (0.5, 2.0)}, "Gelu": {"approximate": ("none", "tanh")},
                   "HardSigmoid": {"alpha": (0.2, 0.5), "beta": (0.25, 0.6)}, "LeakyRelu": {"alpha": (0.0, 0.1, 2.0, -0.5)},
                   "Selu": {"alpha": (1.5,), "gamma": (1.25, 0.5)}, "ThresholdedRelu": {"alpha": (0.3, 1.1)}, "Shrink": {"lambd": (0.3, 1.1), "bias": (0.0, 0.25)},
                   "LogSoftmax": {"axis": (-1, 0, 1)}, "Softmax": {"axis": (-1, 0, 1, 2)}, "LRN": {"size": (3, 2)}, "LpNormalization": {"axis": (-1, 0), "p": (1, 2)},
                   "MeanVarianceNormalization": {"axes": ([0, 2, 3], [1], [0, 1])}, "GlobalAveragePool": {}, "GlobalMaxPool": {}, "GlobalLpPool": {"p": (1, 2)}}
EXACT = ("Abs", "Neg", "Relu", "Identity")
ROUNDED = ("Ceil", "Floor", "Round", "Sign", "IsInf", "IsNaN", "Hardmax")
BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "PRelu")
COMPARED = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
REDUCED = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare")
INTEGERS = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)


def unary(g: Growth) -> object:
    """Functions of one number, and rows."""
    x = g.pick()
    if x is None:
        return None
    name = g.one_of((*SMOOTH, *WITH_ATTRIBUTES))
    choices = WITH_ATTRIBUTES.get(name, {})
    return g.add(name, [x], exact=x.exact and name in EXACT, **{k: g.one_of(v) for k, v in choices.items() if not g.chance(3) or k == "size"})


def rounded(g: Growth) -> object:
    """Functions that jump."""
    x = g.pick(exact=True)
    if x is None:
        return None
    name = g.one_of(ROUNDED)
    return g.add(name, [x], exact=True, **({"axis": g.source.randrange(-x.rank, x.rank)} if name == "Hardmax" and x.rank else {}))


def integer(g: Growth) -> object:
    """Arithmetic of integers and truth values."""
    x = g.pick(kinds="iu")
    if x is None or g.chance(4):
        flag = g.pick(kinds="b")
        if flag is None:
            return None
        return g.add("Not", [flag]) if g.chance(3) else g.add(g.one_of(("And", "Or", "Xor")), [flag, other(g, flag)])
    name = g.one_of(("Abs", "Neg", "Sign", "BitwiseNot", "Add", "Sub", "Mul", "Div", "Mod", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift", "Max", "Min", "Pow",
                     "Clip", "Relu"))
    if name in ("Abs", "Neg", "Sign", "BitwiseNot", "Relu"):
        return g.add(name, [x])
    if name in ("Div", "Mod", "Pow", "BitShift"):
        low = 1 if name in ("Div", "Mod") else 0
        right = g.constant(np.asarray([[low, 2, 3, 1][g.source.randrange(4)] for _ in range(x.shape[-1] if x.rank and x.fixed[-1] else 1)], x.dtype))
        return g.add(name, [x, right], **({"direction": g.one_of(("LEFT", "RIGHT"))} if name == "BitShift" else {"fmod": 1} if name == "Mod" and g.chance(3) else {}))
    if name == "Clip":
        return g.add(name, [x, g.constant(0, x.dtype), g.constant(g.one_of((0, 2, 5)), x.dtype)])
    return g.add(name, [x, other(g, x)])


def other(g: Growth, x: Known) -> Known | str:
    """Something to combine with `x`: of its type, and of a shape that broadcasts with it."""
    same = [v for v in g.visible() if v.dtype == x.dtype and v.fixed == x.fixed]
    if same and not g.chance(3):
        return g.one_of(same)  # type: ignore[no-any-return]
    shape = tuple(1 if d is None or g.chance(3) else d for d in x.fixed)[g.source.randrange(x.rank + 1):]
    if g.chance(8) and x.rank < 4:
        shape = (2, *(1 if d is None else d for d in x.fixed))
    if x.dtype.kind == "b":
        return g.constant(g.quarters(shape) > 0)
    return g.constant(g.quarters(shape, x.dtype) if x.is_float else np.abs(g.quarters(shape) * 4).astype(x.dtype))


def binary(g: Growth) -> object:
    """Functions of two numbers or more."""
    x = g.pick()
    if x is None:
        return None
    name = g.one_of((*BINARY, "Add", "Mul", "Pow", "Mod", "Clip", "Where", "Gemm"))
    right = other(g, x)
    match name:
        case "Pow":
            return g.add(name, [x, g.constant(g.one_of((2, 3, 0.5, -1, 0)), g.one_of((x.dtype, np.int32)))])
        case "Mod":
            return x.exact and g.add(name, [x, g.constant(g.one_of((1.5, -1.25)), x.dtype)], exact=True, fmod=1)
        case "Clip":
            bounds = [g.constant(-0.5, x.dtype), g.constant(1.25, x.dtype)]
            return g.add(name, [x, *g.one_of((bounds, bounds[:1], ["", bounds[1]], [bounds[1], bounds[0]]))], exact=x.exact)
        case "Where":
            flag = g.pick(kinds="b")
            return flag and g.add(name, [flag, x, right], exact=x.exact)
        case "Gemm":
            return None if x.rank != 2 or x.fixed[1] is None else g.add(
                name, [x, g.constant(g.quarters((4, x.shape[1]), x.dtype)), *([g.constant(g.quarters((4,), x.dtype))] if g.chance(2) else [])], transB=1,
                alpha=g.one_of((1.0, 0.5)), beta=g.one_of((1.0, 0.0, 2.0)))
    exact = x.exact and name in ("Add", "Sub", "Mul", "Max", "Min") and (isinstance(right, str) or right.exact)
    if name in ("Max", "Min", "Sum", "Mean") and g.chance(2):
        return g.add(name, [x, right, other(g, x)])
    return g.add(name, [right, x] if g.chance(3) and name != "PRelu" else [x, right], exact=exact)


def compared(g: Growth) -> object:
    """Truth values out of numbers."""
    x = g.pick(kinds="fiu", exact=True)
    if x is None:
        return None
    right = other(g, x)
    return None if isinstance(right, Known) and not right.exact else g.add(g.one_of(COMPARED), [x, right])


def cast(g: Growth) -> object:
    """Casts between all types that onnxruntime returns."""
    x = g.pick(kinds="fiub", exact=True)
    if x is None:
        return None
    to = g.one_of((np.float32, np.float32, np.float16, np.float64, np.bool_, *INTEGERS))
    if x.is_float and np.dtype(to).kind == "u":  # C and ONNX leave undefined what becomes of numbers below zero, and a run may draw others
        return g.add_nodes(*_chain(g, x, [("Abs", {}), ("Cast", {"to": _code(to)})]), exact=True)
    if g.chance(4):
        return g.add("CastLike", [x, g.constant(0, to)], exact=True)
    return g.add("Cast", [x], exact=True, to=int(_code(to)))


def _code(dtype: object) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))  # type: ignore[call-overload]


def through_bfloat16(g: Growth) -> object:
    """To bfloat16 or a float of eight bits, and back."""
    x = g.pick(kinds="f", exact=True)
    if x is None or g.opset < 19:
        return None
    back = g.add_nodes(*_chain(g, x, [("Cast", {"to": g.one_of((16, 17, 18, 19, 20))}), ("Cast", {"to": 1})]), exact=True)
    return back


def _chain(g: Growth, x: Known, steps: Sequence[tuple[str, dict[str, object]]]) -> tuple[list[object], list[str]]:
    from onnx import helper

    nodes, last = [], x.name
    for name, attributes in steps:
        made = g.fresh()
        nodes.append(helper.make_node(name, [last], [made], **attributes))
        last = made
    return nodes, [last]


def reduced(g: Growth) -> object:
    """Reductions, and positions of extremes."""
    x = g.pick(kinds="fi")
    if x is None or not x.rank:
        return None
    axes = sorted(g.source.sample(range(x.rank), g.source.randrange(1, x.rank + 1)))
    axes = [a - x.rank if g.chance(3) else a for a in axes]
    if g.chance(4):
        if not x.exact:
            return None
        return g.add(g.one_of(("ArgMax", "ArgMin")), [x], axis=axes[0], keepdims=g.source.randrange(2), select_last_index=g.source.randrange(2))
    name = g.one_of(REDUCED)
    keepdims = g.source.randrange(2)
    if g.opset >= 18 or (g.opset >= 13 and name == "ReduceSum"):
        return g.add(name, [x, *([g.constant(axes, np.int64)] if not g.chance(5) else [])], keepdims=keepdims,
                     exact=x.exact and name in ("ReduceMax", "ReduceMin", "ReduceSum"))
    return g.add(name, [x], axes=axes, keepdims=keepdims)


def moved(g: Growth) -> object:
    """Operators that move numbers without computing any."""
    x = g.pick(kinds="fiubO")
    if x is None:
        return None
    axis = g.source.randrange(-x.rank, x.rank) if x.rank else 0
    size = x.fixed[axis] if x.rank else None
    exact = {"exact": x.exact}
    name = g.one_of(("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Concat", "Split", "Slice", "Slice", "Pad", "DepthToSpace", "SpaceToDepth",
                     "Trilu", "CenterCropPad", "ReverseSequence", "CumSum", "Shape", "Size", "EyeLike", "OneHot", "TopK", "NonZero", "Unique", "Compress", "Identity", "Dropout"))
    match name:
        case "Transpose" if x.rank:
            return g.add(name, [x], **exact, perm=g.source.sample(range(x.rank), x.rank))
        case "Reshape":
            wanted = g.one_of(([-1], [0, -1], [1, -1, 1], [0, 0, -1], [-1, 2], [-1, x.shape[-1] if x.rank else 1]))
            if x.rank > 1 and g.chance(2):
                wanted = [0] * (x.rank - 2) + [-1]
            return g.add(name, [x, g.constant(wanted, np.int64)], **exact)
        case "Flatten":
            return g.add(name, [x], **exact, axis=axis)
        case "Squeeze":
            ones = [i for i, d in enumerate(x.fixed) if d == 1]
            return g.add(name, [x, g.constant(ones, np.int64)], **exact) if ones and g.opset >= 13 else None
        case "Unsqueeze":
            return g.add(name, [x, g.constant([axis if axis >= 0 else axis - 1], np.int64)], **exact) if g.opset >= 13 and x.rank < 5 else None
        case "Expand":
            return g.add(name, [x, g.constant([g.one_of((1, 2)), *(3 if d == 1 and g.chance(2) else 1 for d in x.fixed)], np.int64)], **exact)
        case "Tile":
            return g.add(name, [x, g.constant([g.one_of((1, 1, 2, 3)) for _ in x.fixed], np.int64)], **exact)
        case "Concat":
            others = [v for v in g.visible() if v.dtype == x.dtype and v.rank == x.rank and all(i == axis % x.rank or a == b for i, (a, b) in enumerate(
                zip(v.fixed, x.fixed, strict=True)))] if x.rank else []
            joined = [x, *(g.one_of(others) for _ in range(g.source.randrange(3)) if others)]
            return g.add(name, joined, exact=all(v.exact for v in joined), axis=axis)
        case "Split" if size and size > 1:
            first = g.source.randrange(1, size)
            if g.opset < 13:
                return g.add(name, [x], results=2, **exact, axis=axis, split=[first, size - first])
            if g.chance(2) and g.opset >= 18:
                return g.add(name, [x], results=2, **exact, axis=axis, num_outputs=2)
            return g.add(name, [x, g.constant([first, size - first], np.int64)], results=2, **exact, axis=axis)
        case "Slice" if x.rank:
            step = g.one_of((1, 1, 2, -1, -2))
            begin, end = g.one_of((0, 1, -2, -1, 2)), g.one_of((2**31, 3, -1, 2**63 - 1))
            if step < 0:
                begin, end = g.one_of((-1, 2, 2**31)), g.one_of((-(2**31), 0, -(2**63)))
            return g.add(name, [x, *(g.constant([v], np.int64) for v in (begin, end, axis, step))], **exact)
        case "Pad" if x.rank:
            pads = [g.one_of((0, 0, 1, 2)) for _ in range(2 * x.rank)]
            mode = g.one_of(("constant", "edge", "reflect", *(("wrap",) if g.opset >= 19 else ())))
            value = [g.constant(g.one_of((0, 1)), x.dtype)] if g.chance(2) and mode == "constant" and x.dtype.kind != "O" else []
            return g.add(name, [x, g.constant(pads, np.int64), *value], **exact, mode=mode)
        case "DepthToSpace":
            return g.add(name, [x], **exact, blocksize=g.one_of((1, 2)), mode=g.one_of(("DCR", "CRD")))
        case "SpaceToDepth":
            return g.add(name, [x], **exact, blocksize=g.one_of((1, 2)))
        case "Trilu":
            return g.add(name, [x, *([g.constant(g.one_of((-2, 0, 1, 7)), np.int64)] if g.chance(2) else [])], **exact, upper=g.source.randrange(2))
        case "CenterCropPad" if x.rank:
            return g.add(name, [x, g.constant([g.one_of((1, 3, 6))], np.int64)], **exact, axes=[axis])
        case "ReverseSequence" if x.rank > 1 and x.is_fixed and all(x.shape):
            batch = g.source.randrange(2)
            lengths = g.constant([g.source.randrange(1, x.shape[1 - batch] + 1) for _ in range(x.shape[batch])], np.int64)
            return g.add(name, [x, lengths], **exact, batch_axis=batch, time_axis=1 - batch)
        case "CumSum":
            return g.add(name, [x, g.constant(axis, np.int64)], **exact, exclusive=g.source.randrange(2), reverse=g.source.randrange(2))
        case "Shape":
            return g.add(name, [x], **({"start": g.source.randrange(2)} if g.opset >= 15 else {}))
        case "NonZero" if x.rank and x.exact:  # positions within a number have no axis, to which onnxruntime gives one
            return g.add(name, [x])
        case "Size" | "Identity" | "Dropout":
            return g.add(name, [x], **exact)
        case "EyeLike":
            return g.add(name, [x], k=g.one_of((0, 1, -2)), dtype=g.one_of((1, 7, 6)))
        case "OneHot" if x.dtype.kind == "i":
            return g.add(name, [x, g.constant(g.one_of((3, 5)), np.int64), g.constant([0, 1], np.float32)], exact=True, axis=g.one_of((-1, 0)))
        case "TopK" if size and x.exact:
            return g.add(name, [x, g.constant([g.source.randrange(1, size + 1)], np.int64)], results=2, **exact, axis=axis, largest=g.source.randrange(2))
        case "Unique" if x.exact:
            return g.add(name, [x], results=g.one_of((1, 4)), **exact, sorted=g.source.randrange(2), **({"axis": axis} if g.chance(3) and x.rank else {}))
        case "Compress" if size:
            return g.add(name, [x, g.constant(g.quarters((size,)) > 0)], **exact, axis=axis)
    return None


def indexed(g: Growth) -> object:
    """Gathers and scatters, their indices stored or given to the run."""
    from tests.support.growth import Drawn

    x = g.pick(kinds="fiubO")
    if x is None or not x.rank or not x.is_fixed or not all(x.shape):
        return None
    axis = g.source.randrange(x.rank)
    size = x.shape[axis]

    def indices(shape: Sequence[int], limit: int, dtype: type = np.int64) -> Known | str:
        if g.chance(2):
            return g.add_input(Drawn("indices", np.dtype(dtype), tuple(shape), limit))
        generator = np.random.default_rng(g.source.randrange(2**32))
        return g.constant(generator.integers(-limit, limit, tuple(shape)), dtype)

    name = g.one_of(("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND"))
    shape = g.one_of(((), (2,), (2, 3)))
    dtype = g.one_of((np.int64, np.int32))
    reduction = {"reduction": g.one_of(("add", "mul", "max", "min"))} if g.opset >= 18 and g.chance(2) and x.dtype.kind in "fiu" else {}
    match name:
        case "Gather" if x.dtype.kind == "O" and axis < x.rank - 1:
            return None  # onnxruntime copies the first string of each row alone
        case "Gather":
            return g.add(name, [x, indices(shape, size, dtype)], exact=x.exact, axis=axis - x.rank if g.chance(3) else axis)
        case "GatherElements":
            return g.add(name, [x, indices([g.source.randrange(1, d + 1) if i != axis else 3 for i, d in enumerate(x.shape)], size, dtype)], exact=x.exact, axis=axis)
        case "GatherND":
            depth = g.source.randrange(1, x.rank + 1)
            return g.add(name, [x, indices((*shape, depth), min(x.shape[:depth]))], exact=x.exact)
        case "ScatterElements":
            dims = [g.source.randrange(1, d + 1) for d in x.shape]
            where: Known | str = indices(dims, size, dtype)
            if not reduction:  # which of two updates of one place stays is open
                dims = [d if i == axis else g.source.randrange(1, d + 1) for i, d in enumerate(x.shape)]
                generator = np.random.default_rng(g.source.randrange(2**32))
                where = g.constant(generator.permuted(np.broadcast_to(np.arange(size).reshape([-1 if i == axis else 1 for i in range(x.rank)]), dims), axis=axis), dtype)
            return x.dtype.kind != "O" and g.add(name, [x, where, g.constant(_some(g, dims, x))], exact=x.exact, axis=axis, **reduction)
        case "ScatterND":
            rows = 2 if size > 1 else 1
            where = indices((rows, 1), x.shape[0]) if reduction else g.constant(np.array(g.source.sample(range(x.shape[0]), min(rows, x.shape[0])))[:, None], np.int64)
            rows = rows if reduction else min(rows, x.shape[0])
            return x.dtype.kind != "O" and g.add(name, [x, where, g.constant(_some(g, (rows, *x.shape[1:]), x))], exact=x.exact, **reduction)
    return None


def _some(g: Growth, shape: Sequence[int], like: Known) -> np.ndarray:  # type: ignore[type-arg]
    values = g.quarters(shape)
    return values > 0 if like.dtype.kind == "b" else values.astype(like.dtype) if like.is_float else np.abs(4 * values).astype(like.dtype)


def ranged(g: Growth) -> object:
    """Values made of shapes: ranges, filled tensors, expansions to the shape of another."""
    x, y = g.pick(kinds="fiub"), g.pick(kinds="f")
    if x is None or y is None:
        return None
    shape = g.add("Shape", [x])
    if shape is None:
        return None
    match g.source.randrange(4):
        case 0:
            return g.add("ConstantOfShape", [shape[0]])
        case 1:
            return g.add("Expand", [y, shape[0]], exact=y.exact)
        case 2 if x.rank:
            last = g.add("Gather", [shape[0], g.constant(g.source.randrange(x.rank), np.int64)])
            return last and g.add("Range", [g.constant(0, np.int64), last[0], g.constant(1, np.int64)])
        case _:
            return g.add("Reshape", [y, shape[0]], exact=y.exact)
