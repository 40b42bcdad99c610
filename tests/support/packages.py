"""Packages as pip leaves them, made of text, for tests of what installed packages bring."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, package: str, entry_points: Mapping[str, Mapping[str, str]], files: Mapping[str, str]) -> Path:
    """Puts a package into a folder that is searched for modules: its files and what pip notes about it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    groups = ("\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())])
              for group, entries in entry_points.items())
    (info / "entry_points.txt").write_text("\n\n".join(groups) + "\n", encoding="utf-8")
    return folder
