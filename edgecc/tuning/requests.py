"""Which kernels of a network can be tuned, and which of them a tuning decides."""

from __future__ import annotations

from collections.abc import Iterable

from edgecc.kernels.kernel import Candidate
from edgecc.kernels.registry import candidates
from edgecc.kernels.request import Request, signature
from edgecc.tuning.record import Tuning


def tunable(requests: Iterable[Request]) -> dict[str, tuple[Request, tuple[Candidate, ...]]]:
    """The distinct requests that can be computed in more than one way, by signature, with the ways, cheapest first."""
    found: dict[str, tuple[Request, tuple[Candidate, ...]]] = {}
    for request in requests:
        key = signature(request)
        if key not in found:
            ways = candidates(request)
            if len(ways) > 1:
                found[key] = request, ways
    return found


def gaps(tuning: Tuning, requests: Iterable[Request]) -> tuple[str, ...]:
    """What the cost model has to choose all the same: a sentence for each kind of reason; () where the tuning decides everything."""
    ways = tunable(requests)
    missing = [key for key in ways if key not in tuning.records]
    gone = [key for key, (_, options) in ways.items()
            if key in tuning.records and tuning.records[key].chosen not in {option.name for option in options}]
    sentences = []
    if missing:
        sentences.append(f"{len(missing)} of {len(ways)} kernels with several candidates were not measured; the cost model chose")
    if gone:
        names = ", ".join(sorted({tuning.records[key].chosen for key in gone}))
        sentences.append(f"{len(gone)} kernels were tuned to candidates that do not exist any more ({names}); the cost model chose")
    return tuple(sentences)
