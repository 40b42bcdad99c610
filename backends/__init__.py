"""Imported as edgecc.backends, never by its top-level path."""

if __name__ != "edgecc.backends":
    raise ImportError("import edgecc.backends; the folder at the root of the repository is not a package of its own")
