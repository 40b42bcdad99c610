"""The Graph IR: types, operators, graphs, verifier and textual form."""
