"""The TOSA back end: a graph as a TOSA file, for Arm's tools and others that take one."""
