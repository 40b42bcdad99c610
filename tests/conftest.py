"""Fixtures for all tests."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path

import pytest


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
