"""Every operator, with operands, attributes and results that are wrong: a message that helps, or code that is right.

All variants take minutes; here every 61st is tried, from another one on for each operator. EDGECC_FUZZ_SECONDS=NUMBER tries as many as
there is time for.
"""

from __future__ import annotations

import itertools
import time

import pytest

from tests.support import malformed
from tests.support.randomness import seconds_of_fuzzing

STRIDE = 61


@pytest.mark.filterwarnings("ignore")
def test_malformed_nodes_are_refused_clearly_or_understood() -> None:
    models = malformed.sound_models()
    judgements = [malformed.judged(sound, malformed.model_of(sound, sound.graph)) for sound in models]
    found = [f"{sound.operator}: {judgement.complaint}" for sound, judgement in zip(models, judgements, strict=True) if judgement.complaint]
    assert not found, "\n".join(found)
    assert sum(judgement.outcome == "ok" for judgement in judgements) > 0.8 * len(models)
    end, tried = time.monotonic() + seconds_of_fuzzing(0), 0
    for turn in range(STRIDE):
        for number, sound in enumerate(models):
            for what, model in itertools.islice(malformed.variants(sound), (turn + 5 * number) % STRIDE, None, STRIDE):
                complaint = malformed.judged(sound, model).complaint
                found += [f"{what}: {complaint}"] if complaint else []
                tried += 1
        if time.monotonic() >= end:
            break
    assert not found, "\n".join(found)
    assert tried > 300
