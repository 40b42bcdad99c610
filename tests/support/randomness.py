"""What the environment asks of tests with random models and cases: for how long, and which."""

from __future__ import annotations

import os


def seconds_of_fuzzing(default: float) -> float:
    """Seconds that each test of random models may take: of the environment variable EDGECC_FUZZ_SECONDS, or `default`."""
    return float(os.environ.get("EDGECC_FUZZ_SECONDS", default))


def seed_of_fuzzing() -> int:
    """Which random models and cases are tried: EDGECC_FUZZ_SEED, or always the same."""
    return int(os.environ.get("EDGECC_FUZZ_SEED", "0"))


def is_seeded() -> bool:
    """Whether other random models and cases are asked for than those of every run."""
    return "EDGECC_FUZZ_SEED" in os.environ
