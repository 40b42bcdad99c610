"""Kernels: how each operator becomes a loop program."""
