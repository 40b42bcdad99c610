"""Imported as edgecc.backends.c, never by its top-level path."""

if __name__ != "edgecc.backends.c":
    raise ImportError("import edgecc.backends.c; the folder at the root of the repository is not a package of its own")
