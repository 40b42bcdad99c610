"""Vendors' tools that live in Python environments of their own and are driven by subprocess."""
