"""Choosing kernels by measurement: what is measured, how, and the file that keeps what was found."""
