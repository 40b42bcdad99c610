"""Imported as edgecc.passes, never by its top-level path."""

if __name__ != "edgecc.passes":
    raise ImportError("import edgecc.passes; the folder at the root of the repository is not a package of its own")
