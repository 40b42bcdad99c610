"""The node tests that come with the onnx package: every one agrees, or fails with its recorded error code.

conformance.txt beside this file lists the ones that are not compiled, for the version of onnx it names;
`pytest --bless` rewrites it. A case that starts to pass must leave the list.

Recorded as wrong results, and why: Resize by scales with align_corners (the length is rounded first, as
onnxruntime does); DynamicQuantizeLinear (the quotient is not rounded to float32 before it is rounded to an
integer); Bernoulli (the numbers are drawn by another generator, which ONNX allows); shifts of negative numbers to the right by the width or more (they give 0, not -1).
"""

import contextlib
import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgecc.errors import EdgeccError
from edgecc.frontend import import_model_with_report
from edgecc.reference.executor import execute

RECORD = Path(__file__).with_name("conformance.txt")


def frozen(model, arrays, count):
    """A copy of the model in which all but the first `count` inputs are constants."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    for value in model.graph.input[count:]:
        out.graph.initializer.append(numpy_helper.from_array(arrays[value.name], value.name))
    del out.graph.input[count:]
    return out, {value.name: arrays[value.name] for value in model.graph.input[:count]}


def as_array(value):
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.ndarray | np.generic) else None


def imported(model, feeds):
    """The graph, with as many inputs left to run time as possible: parameters such as shapes must be constants."""
    try:
        return import_model_with_report(model, inputs=feeds), feeds
    except EdgeccError as error:
        if not any("is not a constant" in detail or "at run time" in detail or "depends on data" in detail
                   for detail in error.details):
            raise
    for count in (1, 0):
        smaller, fewer = frozen(model, feeds, count)
        try:
            return import_model_with_report(smaller, inputs=fewer), fewer
        except EdgeccError:
            if count == 0:
                raise
    raise AssertionError("unreachable")


def outcome(case):
    """ "ok", or an error code, or what differs."""
    for inputs, outputs in case.data_sets:
        arrays = [as_array(x) for x in inputs]
        if any(a is None for a in arrays):
            return "sequence"
        feeds = dict(zip([i.name for i in case.model.graph.input], arrays, strict=False))
        try:
            (graph, report), feeds = imported(case.model, feeds)
        except EdgeccError as error:
            return error.code
        if any("infers" in note for note in report.notes):
            return "shape inference disagrees"
        for got, wanted in zip(execute(graph, feeds).values(), map(as_array, outputs), strict=True):
            if wanted is None or got.dtype != wanted.dtype or got.shape != wanted.shape:
                return "wrong type"
            rounding = {2: 1e-2, 4: 1e-5}.get(got.dtype.itemsize, 1e-7) if got.dtype.kind not in "iub" else 0
            with np.errstate(all="ignore"):
                close = np.allclose(got.astype(np.float64), wanted.astype(np.float64), rtol=max(rounding, case.rtol if rounding else 0),
                                    atol=rounding, equal_nan=True)
            if not close:
                return "wrong result"
    return "ok"


@pytest.mark.filterwarnings("ignore")
def test_onnx_node_tests(request):
    # Making the cases prints, warns, and leaves numpy's error handling changed.
    with contextlib.redirect_stdout(io.StringIO()), np.errstate():
        from onnx.backend.test.case.node import collect_testcases
        cases = collect_testcases()
    got = {case.name: outcome(case) for case in cases}
    failed = {name: result for name, result in sorted(got.items()) if result != "ok"}
    if request.config.getoption("--bless"):
        lines = [f"onnx {onnx.__version__}", *(f"{name} {result}" for name, result in failed.items())]
        RECORD.write_text("\n".join(lines) + "\n", encoding="utf-8")
    version, *lines = RECORD.read_text(encoding="utf-8").splitlines()
    recorded = dict(line.split(" ", 1) for line in lines)
    if version == f"onnx {onnx.__version__}":
        assert failed == recorded
    else:  # other versions have other cases: those that are known must behave, new ones must not be wrong
        surprises = {name: result for name, result in failed.items()
                     if recorded.get(name, "E105" if result.startswith("E1") else "ok") not in (result, "E105")}
        assert not surprises
    assert sum(result == "ok" for result in got.values()) > 1000
