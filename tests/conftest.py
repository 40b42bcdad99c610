"""Fixtures for all tests."""

from __future__ import annotations

import difflib
import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis.internal.conjecture import providers

from edgecc.cli import main
from edgecc.passes import base
from tests.support import randomness
from tests.support.packages import install

# Tests say nothing of time: a busy machine is no fault of what they examine. What is drawn is the same in every run, so
# that a commit which passed passes again; EDGECC_FUZZ_SEED=NUMBER draws others, as it does for random models.
hypothesis.settings.register_profile("edgecc", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow],
                                     derandomize=not randomness.is_seeded())
hypothesis.settings.load_profile("edgecc")
if not randomness.is_seeded() and hasattr(providers, "_get_local_constants"):
    # Hypothesis also draws constants that it finds in the modules loaded so far: other ones with each change of the code and of
    # the order of tests. Reading all modules takes each process seconds, too.
    providers._get_local_constants = providers.Constants


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if randomness.is_seeded() and config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = str(randomness.seed_of_fuzzing())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="write golden files instead of comparing with them")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Compares a text with the file golden/MODULE/TEST.ir beside the test; `--bless` writes that file."""

    def compare(text: str, suffix: str = "ir") -> None:
        here = Path(str(request.path))
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", request.node.name).strip("-")
        path = here.parent / "golden" / here.stem.removeprefix("test_") / f"{name}.{suffix}"
        if request.config.getoption("--bless"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        assert path.exists(), f"{path} is missing; look at the text, then run pytest with --bless:\n{text}"
        wanted = path.read_text(encoding="utf-8")
        difference = "\n".join(difflib.unified_diff(wanted.splitlines(), text.splitlines(), "golden", "now", lineterm=""))
        assert text == wanted, f"{path.name} differs; if that is right, run pytest with --bless\n{difference}"

    return compare


@dataclass(frozen=True)
class Outcome:
    """Exit status and both streams of one command."""

    status: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output; anything else there is a failure."""
        value = json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert isinstance(value, dict) and self.out.count("\n") == 1 and self.out.endswith("}\n")
        return value


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs `edgecc ARGUMENTS...` in this process and keeps what it printed."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return Outcome(status, captured.out, captured.err)

    return run


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs packages made of text, with entry points, for the time of a test; see tests/support/packages.py."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    modules, passes = set(sys.modules), dict(base.PASSES)

    def add(name: str, entry_points: Mapping[str, Mapping[str, str]], files: Mapping[str, str]) -> None:
        install(folder, name, entry_points, files)
        importlib.invalidate_caches()

    yield add
    for module in set(sys.modules) - modules:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(folder)):
            del sys.modules[module]
    for pass_name in set(base.PASSES) - set(passes):
        if not base.PASSES[pass_name].__module__.startswith("edgecc."):
            del base._TABLE[pass_name]
