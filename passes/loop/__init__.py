"""Imported as edgecc.passes.loop, never by its top-level path."""

if __name__ != "edgecc.passes.loop":
    raise ImportError("import edgecc.passes.loop; the folder at the root of the repository is not a package of its own")
