"""What is measured, what is kept, and that lowering does what the file says; with times that are made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from edgecc.ir.graph import Graph
from edgecc.ir.types import DType, TensorType
from edgecc.kernels.kernel import Candidate
from edgecc.kernels.registry import candidates
from edgecc.kernels.request import Request, signature
from edgecc.kernels.view import View
from edgecc.lowering.options import LoweringOptions
from edgecc.ops.convolution import Conv
from edgecc.pipeline import compile_graph
from edgecc.targets.schema import load_target
from edgecc.tuning.measure import sweep_size, tune
from edgecc.tuning.record import Record, Tuning, new_tuning
from edgecc.tuning.requests import gaps, tunable

TARGET = load_target("x86-64-v4")


def network() -> Graph:
    """Two equal convolutions that can be computed in several ways and one of other channels, between two pointwise ones."""
    generator = np.random.default_rng(0)
    graph = Graph("net")
    value = graph.add_input(TensorType(DType.F32, (1, 32, 24, 24)), "x")
    for inner, outer, kernel in ((32, 32, 1), (32, 32, 3), (32, 32, 3), (32, 48, 3), (48, 8, 1)):
        weights = graph.constant(generator.standard_normal((outer, inner, kernel, kernel)).astype(np.float32), "w")
        pads = (kernel // 2,) * 4
        value = graph.add_node(Conv(strides=(1, 1), pads=pads, dilations=(1, 1), group=1), [value, weights]).output
    graph.set_outputs([value], ["y"])
    return graph


def lowered(choices: Mapping[str, str] | None = None):
    return compile_graph(network(), TARGET, name="net", options=LoweringOptions(tuning=choices or {}, depth_first=False)).lowered


@dataclass
class Fake:
    """Times that make the named candidate the quickest, and a list of what was asked for."""

    quickest: str = "direct"
    asked: list[str] = field(default_factory=list)

    def __call__(self, request: Request, ways: Sequence[Candidate]) -> dict[str, float]:
        self.asked.append(signature(request))
        return {way.name: 1.0 if way.name == self.quickest else 2.0 for way in ways}


@pytest.fixture(scope="module")
def requests() -> tuple[Request, ...]:
    return lowered().requests


def fresh() -> Tuning:
    return new_tuning(TARGET, "", "cc")


def test_equal_requests_are_measured_once(requests: tuple[Request, ...]):
    assert len(requests) == 5 and requests[1] == requests[2]
    fake, seen = Fake(), []
    tuning = tune(fresh(), requests, fake, observer=seen.append)
    assert fake.asked == list(dict.fromkeys(fake.asked)) == list(tunable(requests))
    assert signature(requests[1]) in fake.asked
    assert seen == [tuning.records[key] for key in fake.asked]
    assert all(record.op == "conv" and record.shapes[0].startswith("f32[1,") for record in seen)


def test_a_single_way_is_not_measured():
    request = lowered().requests[1]
    # A depthwise convolution with a window too large for blocks of rows.
    single = replace(request, op=replace(request.op, group=32, pads=(3, 3, 2, 2)), inputs=(request.inputs[0], replace(
        request.operand(1), view=View(DType.F32, (32, 1, 6, 6), (36, 36, 6, 1)))))
    assert len(candidates(single)) == 1 and tunable([single]) == {}


def test_what_is_known_is_not_measured_again(requests: tuple[Request, ...]):
    first = tune(fresh(), requests, Fake())
    fake = Fake("winograd 2x2")
    assert tune(first, requests, fake).to_json() == first.to_json() and fake.asked == []
    again = tune(first, requests, fake, again=True)
    assert again.choices[signature(requests[1])] == "winograd 2x2" and len(fake.asked) == len(first.records)


def test_kernels_whose_candidates_changed_are_measured_again(requests: tuple[Request, ...]):
    first = tune(fresh(), requests, Fake())
    key = next(iter(first.records))
    old = Record(key, "conv", (), "gone", {"gone": 1.0, "direct": 2.0})
    fake = Fake()
    tune(first.with_records([old]), requests, fake)
    assert fake.asked == [key]


def test_other_models_kernels_stay_in_the_file(requests: tuple[Request, ...]):
    other = Record("other", "matmul", (), "x", {"x": 1.0})
    tuning = tune(fresh().with_records([other]), requests, Fake())
    assert tuning.records["other"] is other and len(tuning.records) == 1 + len(tunable(requests))


@pytest.mark.parametrize("position", [0, 1, -1])
def test_lowering_takes_what_was_quickest(position: int, requests: tuple[Request, ...]):
    name = candidates(requests[1])[position].name
    call = lowered(tune(fresh(), requests, Fake(name)).choices).calls[1]
    assert call.kernel.candidate == name and call.choice.startswith(name.split()[0])


def test_gaps(requests: tuple[Request, ...]):
    tuning = tune(fresh(), requests, Fake())
    count = len(tunable(requests))
    assert gaps(tuning, requests) == ()
    key = signature(requests[1])
    gone = tuning.with_records([Record(key, "conv", (), "gone", {"gone": 1.0})])
    assert gaps(gone, requests) == ("1 kernels were tuned to candidates that do not exist any more (gone); the cost model chose",)
    assert gaps(fresh(), requests) == (f"{count} of {count} kernels with several candidates were not measured; the cost model chose",)
    calls = lowered({key: "gone"}).calls
    assert [call.kernel.candidate for call in calls] == [call.kernel.candidate for call in lowered().calls]


def test_no_more_is_swept_than_twice_the_largest_cache():
    largest = max(cache.size for cache in TARGET.caches)
    assert sweep_size(1000, TARGET) == 1000 and sweep_size(1 << 40, TARGET) == 2 * largest
