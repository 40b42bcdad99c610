"""Every example in the documents runs and prints what the documents say; every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.documents import ROOT, blocks, missing, run_document

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"),
                    *ROOT.glob("benches/**/*.md")])
RUNNABLE = [path for path in DOCUMENTS if {b.language for b in blocks(path.read_text())} & {"python", "console"}]


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_examples_print_what_the_document_says(path: Path, tmp_path: Path, request: pytest.FixtureRequest):
    if names := missing(path.read_text()):
        pytest.skip(f"not installed: {', '.join(names)}")
    assert run_document(path, tmp_path, bless=request.config.getoption("--bless")) > 0


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
    local = [link for link in links if not link.startswith(("http://", "https://", "mailto:"))]
    assert [link for link in local if not (path.parent / link).exists()] == []


def test_wrong_outputs_are_found(tmp_path: Path):
    with pytest.raises(AssertionError) as error:
        run_document(ROOT / "tests" / "docs" / "wrong.md", tmp_path)
    assert "wrong.md:4 printed\n3\n" in str(error.value)
    assert "wrong.md:14: $ echo right; echo wrong printed\nright\nwrong\n" in str(error.value)
    assert "wrong.md:14: $ echo \"120 bytes\" printed\n120 bytes\n" in str(error.value)
    assert "fine" not in str(error.value) and "105" not in str(error.value)
