"""The TVM back end: a graph as a module of Relax, compiled by TVM to a library for its virtual machine."""
