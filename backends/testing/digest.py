"""Prints a digest of what a back end writes: run in processes with different hash seeds, it must be the same.

    python -m edgecc.backends.testing.digest BACKEND TARGET FORM
"""

from __future__ import annotations

import hashlib
import sys

from edgecc.backends.op_table import OpCase, op_table
from edgecc.backends.testing.subject import Subject, joined

CASES = 12
"""How many cases the digest is taken of."""


def digest(subject: Subject) -> str:
    """SHA-256 of the names and contents of all files for the first cases that are supported, each operator once."""
    found: dict[str, OpCase] = {}
    for case in op_table():
        if case.op not in found and len(found) < CASES and subject.reason(case) is None:
            found[case.op] = case
    cases = list(found.values())
    state = hashlib.sha256()
    artifact = subject.emit(joined(cases))
    for name, content in sorted(artifact.files.items()):
        state.update(f"{name} {len(content)} ".encode() + content)
    state.update(artifact.manifest.to_json())
    return state.hexdigest()


if __name__ == "__main__":
    sys.stdout.write(digest(Subject.of(*sys.argv[1:4])) + "\n")
