"""The node tests that come with the onnx package: every one agrees, or fails with its recorded error code.

conformance.txt beside this file lists the ones that are not compiled, for the version of onnx it names;
`pytest --bless` rewrites it. A case that starts to pass must leave the list.

Recorded as wrong results: Bernoulli, whose numbers are drawn by another generator, which ONNX allows.
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
from edgecc.frontend.interface import flattened
from edgecc.reference.executor import execute

RECORD = Path(__file__).with_name("conformance.txt")


def plain(value):
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def tensors(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def compared(got, wanted, relative):
    """How a tensor differs from the wanted one, or ""."""
    if got.dtype != wanted.dtype or got.shape != wanted.shape:
        return "wrong type"
    rounding = {2: 1e-2, 4: 1e-5}.get(got.dtype.itemsize, 1e-7) if got.dtype.kind not in "iub" else 0
    with np.errstate(all="ignore"):
        close = np.allclose(got.astype(np.float64), wanted.astype(np.float64), rtol=max(rounding, relative if rounding else 0),
                            atol=rounding, equal_nan=True)
    return "" if close else "wrong result"


def outcome(case):
    """ "ok", or an error code, or what differs."""
    for inputs, outputs in case.data_sets:
        given = dict(zip([i.name for i in case.model.graph.input], map(plain, inputs), strict=False))
        try:
            graph, report = import_model_with_report(case.model, inputs=given, bind_values=True)
        except EdgeccError as error:
            return error.code
        if any("infers" in note for note in report.notes):
            return "shape inference disagrees"
        feeds = {name: array for name, array in flattened(given).items() if name in graph.input_names}
        results = execute(graph, feeds)
        for port, wanted in zip(report.outputs, map(plain, outputs), strict=True):
            value = port.gather(results)
            if isinstance(value, list) is not isinstance(wanted, list) or len(tensors(value)) != len(tensors(wanted)):
                return "wrong kind"
            problems = [compared(got, want, case.rtol) for got, want in zip(tensors(value), tensors(wanted), strict=True)]
            if any(problems):
                return max(problems)
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
