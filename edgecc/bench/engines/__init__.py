"""One file for each engine that can take part in a comparison.

A file is executed in the worker process alone, by the interpreter that has the engine's package, so it imports that
package at its top and nothing of edgecc (but for edgecc's own). It has one function:

    open_engine(job: Job) -> Engine        (see edgecc/bench/worker.py)
"""
