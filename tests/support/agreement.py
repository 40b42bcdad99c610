"""What has to hold for a sound model (tests/support/sound.py): the graph, and the code made of it, compute what onnxruntime computes."""

from __future__ import annotations

import dataclasses
import random
import resource

from edgecc import api
from edgecc.artifact.load import load
from edgecc.errors import EdgeccError
from edgecc.frontend import Limits
from edgecc.reference.executor import execute
from edgecc.targets.schema import load_target
from tests.support.against_onnxruntime import first_difference, run_session, session_of
from tests.support.fuzz import Verdict
from tests.support.sound import Sound

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1")
LIMITS = Limits(collected_rows=8)
AT_RUN_TIME = ("E402", "E403", "E406", "E407")
"""What a run may end with where its inputs are out of range."""


def examine(sound: Sound, seed: int, *, run: bool) -> Verdict:
    """Imports a sound model and compares it with onnxruntime; with `run` also the code, built with the sanitizers.

    With indices out of range the code has to end with a status, or to clamp them; nothing is compared then.
    """
    source = random.Random(seed)
    options = api.Options(shapes=sound.shapes or None, limits=LIMITS, checks=source.choice(("trap", "trap", "clamp", "off")),
                          threads=source.choice((1, 1, 1, 2)), integers=source.choice(("auto", "always")))
    target = load_target(source.choice(("generic-c", "host", "host", "x86-64-v3")))
    session = session_of(sound.model)
    try:
        done = api.compile_model(sound.model, target, options)
        feeds = list(sound.feeds(seed))
        reference = done.compiled.graph if any(r.changed and r.graph_pass.rounds_anew for r in done.compiled.passes) else done.graph
        expected = []
        for sizes, feed in feeds:
            wanted = execute(done.graph, feed)
            found = None if session is None else run_session(session, feed)
            if found is not None and (problem := first_difference(sound.model, wanted, found)):
                return Verdict("ok", f"at {sizes}, reference against onnxruntime: {problem}")
            expected.append(execute(reference, feed))
        if not run:
            return Verdict("ok" if session is not None else "ok, refused by onnxruntime")
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))  # the sanitizers reserve terabytes of addresses
        with load(done.artifact, cc="gcc", isolated=True, flags=SANITIZERS) as model:
            for (sizes, feed), wanted in zip(feeds, expected, strict=True):
                if problem := first_difference(sound.model, model.run(feed), list(wanted.values())):
                    return Verdict("ok", f"at {sizes}, {target.name}, {_told(options)}, code against reference: {problem}")
            if options.checks != "off":
                _run_wild(model, sound, seed)
    except EdgeccError as error:
        text = str(error)
        return Verdict(error.code, "" if error.code not in ("E401", "E005", "E402", "E403", "E406", "E407") and error.exit_status in (2, 3) and len(
            text) < 5000 else f"{target.name}, {_told(options)}: {text[:3000]}")
    return Verdict("ok, run")


def _run_wild(model: api.Model, sound: Sound, seed: int) -> None:
    """One run with indices that are out of range."""
    for sizes, _ in list(sound.feeds(seed))[:1]:
        try:
            model.run(sound.feed(seed, sizes, wild=True))
        except EdgeccError as error:
            if error.code not in AT_RUN_TIME:
                raise


def _told(options: api.Options) -> str:
    return ", ".join(f"{name} {getattr(options, name)}" for name in ("checks", "threads", "integers") if getattr(options, name) != getattr(
        api.DEFAULT_OPTIONS, name)) or "default options"


def as_text(sound: Sound) -> str:
    """How the inputs of a model are filled, to try again what was found."""
    return repr({name: dataclasses.astuple(drawn) for name, drawn in sound.inputs.items()}) + f" {dict(sound.shapes)}"
