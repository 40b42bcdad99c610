"""Imported as edgecc.targets, never by its top-level path."""

if __name__ != "edgecc.targets":
    raise ImportError("import edgecc.targets; the folder at the root of the repository is not a package of its own")
