"""Every example in the documents runs and prints what the documents say; every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.documents import ROOT, blocks, run_document

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"),
                    *ROOT.glob("benches/**/*.md")])
RUNNABLE = [path for path in DOCUMENTS if {b.language for b in blocks(path.read_text())} & {"python", "console"}]


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_examples_print_what_the_document_says(path: Path, tmp_path: Path):
    assert run_document(path, tmp_path) > 0


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
    local = [link for link in links if not link.startswith(("http://", "https://", "mailto:"))]
    assert [link for link in local if not (path.parent / link).exists()] == []


def test_a_wrong_output_is_found(tmp_path: Path):
    document = ROOT / "tests" / "docs" / "wrong.md"
    with pytest.raises(AssertionError, match=r"wrong\.md:2 printed\n3"):
        run_document(document, tmp_path)
