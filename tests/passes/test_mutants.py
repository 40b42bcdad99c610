"""Passes broken on purpose are caught: by --verify-each where the meaning changes, else by the tests of declines.

Each mutant is a pass's source with one piece of text replaced. A mutant that is not caught means that
the data of the tests does not tell right from wrong, whatever the coverage says.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgecc.errors import EdgeccError
from edgecc.passes import base
from edgecc.passes.base import GraphPass, load_passes
from edgecc.pipeline import run_passes
from edgecc.reference.executor import sample_inputs
from tests.passes.graph import (
    test_canonicalize,
    test_eliminate,
    test_fold_constants,
    test_fold_expand,
    test_fold_pad,
    test_fold_reshape,
    test_fold_transpose,
    test_fuse_activation,
    test_fuse_conv_bn,
    test_fuse_elementwise,
    test_fuse_residual,
    test_recognize_bias,
    test_recognize_normalization,
    test_simplify_movement,
)
from tests.support.graph_passes import graph_of

FOLDER = Path(base.__file__).parent
pytestmark = pytest.mark.filterwarnings("ignore:invalid value")  # mutants make NaN of weights


@dataclass(frozen=True)
class Mutant:
    """One edit of a pass, or of a module it uses, and the case that must show it.

    The case is a key of the test module's FIRES (results must differ) or DECLINES (it must fire there).
    """

    what: str
    old: str
    new: str
    case: str
    module: str = ""


CONV_BN = (
    Mutant("epsilon dropped", "np.sqrt(variance + op.epsilon)", "np.sqrt(variance)", "conv with groups and bias"),
    Mutant("epsilon outside the root", "np.sqrt(variance + op.epsilon)", "(np.sqrt(variance) + op.epsilon)", "conv without bias"),
    Mutant("sign of the mean", "bias - mean * factor", "bias + mean * factor", "conv with groups and bias"),
    Mutant("mean not scaled", "bias - mean * factor", "bias - mean", "matmul with transposed weights"),
    Mutant("bias not scaled", "reshape(-1) * factor + offset", "reshape(-1) + offset", "conv with groups and bias"),
    Mutant("bias forgotten", "shift = offset if bias is None else", "shift = offset if True else", "conv with groups and bias"),
    Mutant("columns for rows", "factor[:, None] if op.transpose_b", "factor[:, None] if not op.transpose_b", "matmul with a scalar bias"),
    Mutant("groups of conv_transpose", "factor.reshape(op.group, 1, -1,", "factor.reshape(1, op.group, -1,",
           "conv transpose with groups"),
    Mutant("groups of the conv after", "(grouped * factor.reshape(conv.group, 1, -1, *spread))",
           "(grouped * factor[::-1].reshape(conv.group, 1, -1, *spread))", "before an unpadded conv"),
    Mutant("shift of the conv after", ".astype(np.float64) + shift)", ".astype(np.float64) - shift)", "before an unpadded conv"),
    Mutant("epilogue lost", "source.inputs[0], new_weights", "source.inputs[0], new_weights * 1",
           "before an unpadded conv"),
    Mutant("attributes lost", "replace(graph, node, main.op,", "replace(graph, node, type(main.op)(main.op.strides, main.op.pads, "
           "main.op.dilations, main.op.group),", "before an unpadded conv"),
    Mutant("says it did nothing", "absorbed=[source])\n        return True", "absorbed=[source])\n        return False",
           "conv with groups and bias"),
    Mutant("use check removed", "if sole_user(graph, first.output) is not second:", "if False:", "2 another reader"),
    Mutant("returned value not looked for", "if sole_user(graph, first.output) is not second:",
           "if len(first.output.users) != 1:", "2 returned"),
    Mutant("epilogue check removed", "or op.epilogue is not None:", "or False:", "3 an epilogue"),
    Mutant("padding check removed", "if any(conv.pads):", "if False:", "6 padded conv"),
    Mutant("rank check removed", "if node.operand(0).type.rank != 2:", "if False:", "4 rank 3"),
    Mutant("finite check removed", "if not all(np.isfinite(", "if False and not all(np.isfinite(", "5 a variance of zero"),
)

ELEMENTWISE = (
    Mutant("operands exchanged", "[inside if v is producer.output else read(v) for v in inputs",
           "[inside if v is producer.output else read(v) for v in inputs[::-1]", "1 both operands"),
    Mutant("the producer's operands mixed up", "*(v for v in producer.inputs if", "*(v for v in producer.inputs[::-1] if", "1 both operands"),
    Mutant("shape not kept", "node.output.type.shape)\n        if len", "producer.operand(0).type.shape)\n        if len", "1 an operand that only gives the shape"),
    Mutant("use check removed", "if sole_user(graph, value) is not node:", "if False:", "3 another kind of reader"),
    Mutant("cost check removed", "or not is_cheap(inner.expr) or len(large) > 1", "or len(large) > 1", "3 costly with two readers"),
    Mutant("traffic check removed", "or len(large) > 1 or", "or", "3 two large operands with two readers"),
    Mutant("broadcasting check removed", "and not is_cheap(inner.expr):\n            return \"broad", "and False:\n            return \"broad",
           "4 broadcasting would repeat it"),
    Mutant("rounding check removed", "and rounds(inner.expr):\n            return \"a comp", "and False:\n            return \"a comp", "6 a comparison"),
)

CANONICAL = (
    Mutant("epsilon dropped", "literal(op.epsilon, dtype)", "literal(0.0, dtype)", "6 variable batch norm"),
    Mutant("scale and bias exchanged", 'apply("mul", Arg(0, dtype), Arg(1, dtype)), Arg(2, dtype))',
           'apply("mul", Arg(0, dtype), Arg(2, dtype)), Arg(1, dtype))', "6 constant batch norm"),
    Mutant("parameters along the last axis", "(x.type.shape[1], *[1] * (x.type.rank - 2))", "(x.type.shape[1],)", "6 variable batch norm"),
    Mutant("shape check removed", "return bool(others or replacement) and broadcast_shape([*others, *replacement]) == shape",
           "return True", "2 one of two equal scalars must give the shape"),
    Mutant("squares forgotten", 'case "sum_square":', 'case "sum_squares":', "7 squares over no axes"),
    Mutant("absolute value forgotten", 'case "l1" | "l2":', 'case "l2":', "7 l1 over axes of size one"),
    Mutant("no reciprocal", "literal(1.0 / float(last.value), dtype)", "literal(float(last.value), dtype)",
           "1 division by a power of two", "expressions"),
    Mutant("sign of a subtracted literal", "Literal(-float(last.value), dtype)", "Literal(float(last.value), dtype)",
           "1 subtraction of a literal", "expressions"),
    Mutant("square for cube", 'apply("mul", apply("mul", base, base), base)', 'apply("mul", base, base)', "2 exponent", "expressions"),
    Mutant("sigmoid of -x", 'return apply("sigmoid", x)', 'return apply("sigmoid", apply("neg", x))', "1 sigmoid", "expressions"),
)

MOVEMENT = (
    Mutant("transposes in the wrong order", "source.op.perm[a] for a in op.perm", "op.perm[a] for a in source.op.perm", "1 transposes"),
    Mutant("inner step ignored", "a + b * s if size", "a + b if size", "1 slices"),
    Mutant("outer start ignored", "a + b * s if size", "a if size", "1 slices"),
    Mutant("steps not multiplied", "tuple(s * t for s, t in", "tuple(t for s, t in", "1 slices"),
    Mutant("operands of concat reversed", "operands += [v for v in inner.inputs if", "operands += [v for v in inner.inputs[::-1] if",
           "3 concat of concat"),
    Mutant("offset in concat ignored", "first - offset", "first", "4 slice of one operand"),
    Mutant("step of gather ignored", "int(steps[0]) if len(steps) else 1", "1", "6 gather backwards"),
    Mutant("first index ignored", "int(positions[0]), len(positions)", "0, len(positions)", "6 gather of one index"),
    Mutant("cropping from the wrong side", "tuple(-b if d != 0 else 0 for b, d in zip(op.before,", "tuple(-b if d != 0 else 0 for b, d in zip(op.after,",
           "5 pad that only removes"),
    Mutant("order of axes not looked at", "moved == sorted(moved) and", "", "1 transposes"),
    Mutant("use check removed", "if sole_user(graph, value) is node:", "if True:", "8 the inner concat has another reader"),
    Mutant("spacing not looked at", "if len(steps) > 1 or", "if", "9 unevenly spaced"),
)

TRANSPOSED = (
    Mutant("axes not renamed", "axis=perm[axis])", "axis=axis)", "2 softmax"),
    Mutant("inverse for perm", "axis=perm[axis])", "axis=inverse[axis])", "2 softmax"),
    Mutant("perm for inverse", "entries[inverse[axis]]", "entries[perm[axis]]", "2 slice"),
    Mutant("constants not transposed back", "full.transpose(inverse)", "full.transpose(perm)", "1 constants of several ranks"),
    Mutant("concat axis", "Concat(perm[node.op.axis])", "Concat(inverse[node.op.axis])", "1 concat"),
    Mutant("flag not toggled", "source.operand(0), not flags[index]", "source.operand(0), flags[index]", "3 matmul"),
    Mutant("batch axes not looked at", "if source.op.perm != (*range(rank - 2), rank - 1, rank - 2):", "if False:", "7 batch axes"),
    Mutant("use check removed", "if sole_user(graph, value) is not node and not _only_slices(graph, value):", "if False:",
           "4 another reader"),
    Mutant("perms not compared", "if len(perms) > 1:", "if False:", "5 transposed differently"),
    Mutant("size check removed", "all(value.type.shape != dims for value in moved)", "False", "6 the result is larger"),
)

NORMALIZED = (
    Mutant("rms for layer", "Normalize(axes, epsilon, rms=False)", "Normalize(axes, epsilon, rms=True)", "layer"),
    Mutant("layer for rms", "Normalize(axes, epsilon, rms=True)", "Normalize(axes, epsilon, rms=False)", "rms"),
    Mutant("epsilon dropped", "Normalize(axes, epsilon, rms=True)", "Normalize(axes, 1e-5, rms=True)", "rms"),
    Mutant("scale and bias exchanged", "own[0] if scale is None else scale, bias,", "bias, own[0] if scale is None else scale,",
           "scale and bias"),
    Mutant("own scale lost", "own[0] if scale is None else scale", "scale", "bias after scale"),
    Mutant("numerator not looked at", "_difference(numerator) == (x, mean)", "True", "another numerator"),
    Mutant("use check removed", "if sole_user(graph, normal) is not node or", "if", "2 another reader"),
    Mutant("second operand not looked for", "if own[1] is not None or (own[0] is not None and scale is not None):", "if False:",
           "2 a second scale"),
    Mutant("axes not looked at", "if operator.axes != tuple(", "if False and operator.axes != tuple(", "1 not the last axes"),
)

OTHERS = {
    "eliminate": (test_eliminate, (
        Mutant("attributes not compared", "(attribute_key(node.op), *(None", "(node.op.name, *(None", "different attributes and types"),
        Mutant("operands not compared", "*(None if v is None else id(v) for v in node.inputs))", ")", "equal nodes and equal constants"),
        Mutant("constants compared by type", "value.digest, value", "str(value.type).encode(), value", "equal nodes and equal constants"),
        Mutant("one result merged", "zip(first.outputs, node.outputs, strict=True):\n            graph.replace",
               "zip(first.outputs[:1], node.outputs[:1], strict=True):\n            graph.replace", "equal nodes with several results"),
        Mutant("layout not looked at", "if old.layout != new.layout:", "if False:", "4 the identity changes the layout", "rewrite"),
        Mutant("returned values not looked at", "if graph.is_output(old):", "if False:", "5 the graph would return an input", "rewrite"),
    )),
    "fold_constants": (test_fold_constants, (
        Mutant("variable operands not looked at", "if any(value is not None and value.constant is None", "if False and any(value", "several results"),
        Mutant("folds something else", "graph.constant(result, value.name)", "graph.constant(-result, value.name)", "absent operands"),
    )),
    "fold_pad": (test_fold_pad, (
        Mutant("begin and end exchanged", "(*before[2:], *after[2:])", "(*after[2:], *before[2:])", "uneven widths and own pads"),
        Mutant("own pads lost", "tuple(own + more for own, more", "tuple(more for own, more", "uneven widths and own pads"),
        Mutant("mode not looked at", 'if pad.op.mode != "constant" or', "if", "1 mirrored"),
        Mutant("value not looked at", "(0 if value is None else uniform_element(value)) != (node.op.x_zero or 0)", "False", "1 filled with one"),
        Mutant("channels not looked at", "if any(before[:2]) or any(after[:2]) or", "if", "2 channels"),
    )),
    "fold_reshape": (test_fold_reshape, (
        Mutant("other operands not looked at", "if not all(v is value or", "if False and not all(v is value or", "3 a variable"),
        Mutant("last axis not compared", "len(dims) == 1 and source.type.shape[-1:] == reshaped.type.shape[-1:] == dims", "True",
               "3 a constant along another axis"),
        Mutant("use check removed", "if sole_user(graph, value) is not node or sole_user(graph, source) is not reshape:", "if False:",
               "2 another reader"),
    )),
    "fold_expand": (test_fold_expand, (
        Mutant("axes of size 1 split like others", "if size == joined[axis] else [1] * len(groups[axis])", "if True else []",
               "a scale and masks in the epilogue"),
        Mutant("operands exchanged", "operands = [source if i == index", "operands = [source if i != index", "keys"),
        Mutant("rows not looked at", "source.type.shape[-2:] != repeated[-2:]", "False", "2 rows are repeated"),
        Mutant("groups not compared", "if position == start or math.prod(split[start:position]) != size:", "if False:",
               "3 other axes are joined"),
        Mutant("size not compared", "if broadcast_shape([source.type.shape[:-2], other[:-2]]) != repeated[:-2]:", "if False:",
               "4 the other operand is broadcast"),
    )),
    "fuse_activation": (test_fuse_activation, (
        Mutant("the old epilogue lost", "if own is not None:", "if False:", "after an epilogue", "epilogue"),
        Mutant("extra operands misplaced", "[extra[index - 1] for index in used]", "[extra[index - 1] for index in used[::-1]]",
               "scale and offset per channel", "epilogue"),
        Mutant("bias lost", "first = [*contraction.inputs[:3], None, None, None][:3]",
               "first = [*contraction.inputs[:2], None, None, None][:3]", "relu", "epilogue"),
        Mutant("use check removed", "if sole_user(graph, value) is not node:", "if False:", "1 another reader", "epilogue"),
        Mutant("size check removed", "if len(extra) > MAX_EXTRA or size(expr) > MAX_SIZE:", "if False:", "3 too many operands", "epilogue"),
        Mutant("rounding check removed", "if own is not None and not exact and isinstance(node.op, Elementwise) and rounds(own)", "if False",
               "4 a comparison with what an epilogue rounds", "epilogue"),
    )),
    "fuse_residual": (test_fuse_residual, (
        Mutant("inserted too early", "fuse_epilogue(graph, node, last)",
               "graph.reorder([node, *[n for n in graph.nodes if n is not node]]); fuse_epilogue(graph, node, last)",
               "the other operand is computed after the contraction"),
        Mutant("other operands taken for the sum", "position = {id(v): i + 1 for", "position = {id(v): i for",
               "residual and relu", "epilogue"),
        Mutant("shape not looked at", "if value.type.shape != node.output.type.shape:", "if False:", "2 the result is larger", "epilogue"),
    )),
    "recognize_bias": (test_recognize_bias, (
        Mutant("the old bias lost", "if bias is not None and bias.constant is not None:", "if False:", "conv with bias"),
        Mutant("any operation is a sum", 'Apply("add", (Arg(0), Arg(1)))', "Apply(_, (Arg(0), Arg(1)))", "another operation"),
        Mutant("epilogue not looked at", "or op.epilogue is not None:", "or False:", "1 an epilogue"),
        Mutant("use check removed", "if sole_user(graph, contraction.output) is not node or", "if", "1 another reader"),
    )),
    "fuse_conv_bn": (test_fuse_conv_bn, CONV_BN),
    "fuse_elementwise": (test_fuse_elementwise, ELEMENTWISE),
    "canonicalize": (test_canonicalize, CANONICAL),
    "simplify_movement": (test_simplify_movement, MOVEMENT),
    "fold_transpose": (test_fold_transpose, TRANSPOSED),
    "recognize_normalization": (test_recognize_normalization, NORMALIZED),
}

ALL = [pytest.param(name, cases, mutant, id=f"{name}: {mutant.what} ({mutant.case})")
       for name, (cases, mutants) in sorted(OTHERS.items()) for mutant in mutants]


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    before = dict(load_passes())
    yield
    base._TABLE.clear()
    base._TABLE.update(before)


def mutated(name: str, mutant: Mutant) -> GraphPass:
    """The pass with the mutant's edit; a module it uses is replaced for it alone."""
    replaced: dict[str, object] = {}
    if mutant.module:
        helper = _module(FOLDER / f"{mutant.module}.py", mutant, {})
        replaced = {key: value for key, value in vars(helper).items() if not key.startswith("__")}
    module = _module(FOLDER / "graph" / f"{name}.py", mutant if not mutant.module else None, replaced)
    (cls,) = (value for value in vars(module).values() if isinstance(value, type) and issubclass(value, GraphPass)
              and value.__module__ == module.__name__ and value.__dict__.get("name"))
    return cls()


def _module(path: Path, mutant: Mutant | None, replaced: dict[str, object]) -> types.ModuleType:
    source = path.read_text()
    if mutant is not None:
        assert source.count(mutant.old) == 1, f"{mutant.old!r} occurs {source.count(mutant.old)} times in {path.name}"
        source = source.replace(mutant.old, mutant.new)
    base._TABLE.pop(path.stem.replace("_", "-"), None)
    module = types.ModuleType(f"mutant_{path.stem}")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(source, f"mutant of {path.name}", "exec"), vars(module))
    known = {key: value for key, value in replaced.items() if (key in vars(module) and key != "replace")
             or (key in vars(module) and path.stem != "fold_pad")}
    vars(module).update(known)
    return module


@pytest.mark.parametrize(("name", "cases", "mutant"), ALL)
def test_the_mutant_is_caught(name, cases, mutant):
    graph_pass = mutated(name, mutant)
    fires = getattr(cases, "FIRES", {})
    declines = {**getattr(cases, "DECLINES", {}), **getattr(cases, "QUIET", {})}
    text = fires.get(mutant.case) or declines[mutant.case]
    graph = graph_of(text)
    inputs = sample_inputs(graph)
    try:
        (report,) = run_passes(graph, [graph_pass], verify_each=inputs)
    except EdgeccError as error:
        assert error.code in ("E900", "E901", "E902", "E903")
        return
    assert mutant.case in declines, "the results are the same"
    assert report.changed, "the mutant declined as well"


def test_without_a_mutation_nothing_is_caught():
    harmless = Mutant("nothing", "np.sqrt(variance + op.epsilon)", "np.sqrt(op.epsilon + variance)", "conv with groups and bias")
    graph = graph_of(test_fuse_conv_bn.FIRES[harmless.case])
    (report,) = run_passes(graph, [mutated("fuse_conv_bn", harmless)], verify_each=sample_inputs(graph))
    assert report.changed
