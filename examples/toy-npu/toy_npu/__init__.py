"""A back end of edgecc for a toy accelerator: 8-bit convolutions, additions and limits, as a stream of commands."""
