"""Room beyond what was seen, for values that a model returns.

Errors of a value inside of a network are small beside all others, and what is clipped off few of its elements drowns in sums. What is clipped off a
result stays: of the few numbers of a classifier the largest is what matters, and one sample in eight lies outside of what sixteen others
reached. A step that is a little wider costs next to nothing there, as the noise of all layers in front arrives in these values.
"""

from __future__ import annotations

import math

from edgecc.quantization.network import Network
from edgecc.quantization.points import LIMITS, MOVEMENT, moved_operands
from edgecc.quantization.statistics import Extent

SAMPLES = 100
"""How many samples a range of results is to hold the extremes of. 16 are exceeded by 0.7 standard deviations for that, so many or more by nothing:
one in a hundred is clipped then, and a wider step would cost the others more."""

USED = 0.5
"""The share of a range known from an operator's meaning that data has to use, or its own range is taken."""


def returned_values(network: Network) -> frozenset[str]:
    """The outputs, and what becomes an output by being moved, or by a function whose range is known."""
    found: set[str] = set()
    waiting = [*network.outputs]
    while waiting:
        name = waiting.pop()
        producer = network.producers.get(name)
        if name in found or name in network.constants:
            continue
        found.add(name)
        if producer is not None and producer.op_type in MOVEMENT:
            waiting.extend(moved_operands(producer))
        elif producer is not None and producer.op_type in LIMITS:
            waiting.append(producer.input[0])
    return frozenset(found)


def with_headroom(extent: Extent) -> tuple[float, float]:
    """The range of a value that is returned. An end at 0 stays there: it is that of a function.

    The extreme of n numbers of a normal distribution lies sqrt(2 ln n) standard deviations from their mean (asymptotically), so that of
    `SAMPLES` lies beyond that of those seen by the difference, in standard deviations of the samples' own extremes.
    """
    low, high = extent.range
    more = math.sqrt(2 * math.log(SAMPLES)) - math.sqrt(2 * math.log(min(max(1, extent.count), SAMPLES)))
    below, above = extent.spreads
    return low - more * below if low < 0 else 0.0, high + more * above if high > 0 else 0.0


def fills(limits: tuple[float, float], seen: tuple[float, float], *, returned: bool) -> bool:
    """Whether a value of known limits is to have them as its range, given what was `seen` of it.

    Attention over hundreds of places gives each of them a hundredth, and a vocoder may whisper: with the limits of Softmax and Tanh they would
    have few of 255 steps. Probabilities that a model returns keep theirs, as one that is sure of itself may not have been among the samples.
    """
    return (returned and limits[0] == 0) or seen[1] - seen[0] >= USED * (limits[1] - limits[0])
