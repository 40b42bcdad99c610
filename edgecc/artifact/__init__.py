"""The artifact folder: writing it, building it, loading and running it."""
