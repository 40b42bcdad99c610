"""Helpers shared by tests; imported as tests.support."""
