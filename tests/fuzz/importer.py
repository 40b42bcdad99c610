"""A coverage-guided run of the importer on arbitrary bytes (needs the package atheris).

    python tests/fuzz/importer.py CORPUS [-max_total_time=3600] [libFuzzer options]

The folder CORPUS is filled with small models first if it is empty. Any exception but `EdgeccError` with a user's exit status is a
finding, and so is an input that takes more than 20 seconds or a gigabyte; libFuzzer writes it to crash-* or timeout-*.
"""

from __future__ import annotations

import hashlib
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import atheris  # type: ignore[import-not-found, unused-ignore]

with atheris.instrument_imports(include=["edgecc.frontend", "edgecc.ops", "edgecc.ir"]):
    from edgecc.errors import EXIT_MODEL, EXIT_USAGE, EdgeccError
    from edgecc.frontend import Limits, import_model

LIMITS = Limits(nodes=500, unrolled=500, elements=2**22, constant_bytes=2**24, folding_work=2**20)
OPTIONS = ("-timeout=20", "-rss_limit_mb=1024", "-max_len=20000")


def examine(data: bytes) -> None:
    """One input: a model, or an error for people."""
    try:
        import_model(data, limits=LIMITS)
    except EdgeccError as error:
        if error.exit_status not in (EXIT_MODEL, EXIT_USAGE):
            raise


def fill(folder: Path) -> None:
    """Small models of many kinds as a start."""
    from tests.support import fuzz, hostile, malformed

    families = (hostile.control, hostile.structure, hostile.attributes)
    found = [m.SerializeToString() for family in families for _, _, m in family() if m.ByteSize() < 4000]
    found += [fuzz.Generator(random.Random(seed)).model().SerializeToString() for seed in range(400)]
    found += [malformed.model_of(sound, sound.graph).SerializeToString() for sound in malformed.sound_models()]
    for data in found:
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def main() -> None:
    corpus = next((Path(a) for a in sys.argv[1:] if not a.startswith("-")), None)
    if corpus is None:
        raise SystemExit(__doc__)
    corpus.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        fill(corpus)
    atheris.Setup([sys.argv[0], *OPTIONS, *sys.argv[1:]], examine)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
