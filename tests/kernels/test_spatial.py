"""Output positions cut into runs whose taps are the same, as if each position were looked at."""

from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.kernels.spatial import MAX_STATIC_SEGMENTS, Axis, Segment
from edgecc.loop.index import const


def one_by_one(axis: Axis) -> tuple[Segment, ...]:
    runs: list[Segment] = []
    for position in range(axis.out):
        start, stop = (bound.const for bound in axis.bounds(const(position)))
        taps = (start, max(start, stop))
        assert axis.static_bounds(position) == taps
        if runs and (runs[-1].tap_start, runs[-1].tap_stop) == taps:
            runs[-1] = Segment(runs[-1].start, position + 1, *taps)
        else:
            runs.append(Segment(position, position + 1, *taps))
    return tuple(runs)


@settings(max_examples=300)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(-3, 30))
def test_runs_are_those_of_single_positions(size, out, kernel, stride, dilation, pad):
    axis = Axis(size, out, kernel, stride, dilation, pad)
    wanted, got = one_by_one(axis), axis.segments()
    if len(wanted) <= MAX_STATIC_SEGMENTS:
        assert got == wanted
    full = [run for run in wanted if (run.tap_start, run.tap_stop) == (0, kernel)]
    found = axis.full_run()
    assert (found.start, found.stop) == (full[0].start, full[0].stop) if full else found.extent == 0
    assert sum(segment.extent for segment in got) == out


def test_millions_of_positions_take_no_time():
    axis = Axis(32, 2**30, 2, 1, 1, 2**29)
    assert [s.extent for s in axis.segments()] == [2**29 - 1, 1, 31, 1, 2**29 - 32]
    wide = Axis(10**6, 10**6, 20_001, 1, 1, 10_000)
    assert [(s.start, s.stop, s.tap_start) for s in wide.segments()] == [
        (0, 10_000, None), (10_000, 990_000, 0), (990_000, 10**6, None)]
