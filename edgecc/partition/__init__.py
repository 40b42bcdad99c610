"""Divides a graph between an accelerator and the CPU beside it.

    graph after the passes of the accelerator's back end
      -> plan.py      which nodes run where, in parts that run one after the other, and what crosses between them
      -> split.py     each part as a graph of its own, and how they are wired
      -> artifact.py  the accelerator's parts written by its back end, the others by the C back end, in one artifact
      -> driver.py    the parts in turn as C, with a function of the user's for each part of the accelerator
      -> run.py       all parts in turn: the accelerator's in its simulator
"""
