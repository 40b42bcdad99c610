"""The frame around all commands: help, mistakes, exit statuses, crashes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import edgecc.cli.explain
from edgecc.cli import COMMANDS, main
from edgecc.errors import CATALOGUE
from edgecc.version import VERSION


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_command(cli, arguments):
    outcome = cli(*arguments)
    assert outcome.status == 0 and outcome.err == ""
    for name, text in COMMANDS.items():
        assert name in outcome.out and text in outcome.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(cli, name):
    outcome = cli(name, "--help")
    assert outcome.status == 0
    assert f"edgecc {name}" in outcome.out and "--help" in outcome.out


@pytest.mark.parametrize(("command", "heavy"), [
    ("--help", {"numpy", "onnx", "typer", "networkx", "edgecc.targets.schema"}),
    ("explain", {"numpy", "onnx", "networkx", "edgecc.targets.schema"}),
    ("targets", {"onnx", "networkx", "edgecc.api"}),
])
def test_what_needs_no_model_imports_nothing_heavy(command, heavy):
    code = f"import sys; from edgecc.cli import main; status = main([{command!r}]); sys.exit(status or bool({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version(cli):
    assert cli("--version").out == f"edgecc {VERSION}\n"


def test_module_and_script_are_the_same():
    done = subprocess.run([sys.executable, "-m", "edgecc", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"edgecc {VERSION}\n")


@pytest.mark.parametrize(("arguments", "words"), [
    (["explan"], ["no command 'explan'", "did you mean 'explain'?"]),
    (["zzz"], ["no command 'zzz'", "edgecc --help"]),
    (["targets", "--jsno"], ["edgecc targets: no such option", "--jsno", "did you mean --json?"]),
    (["targets", "--zzz"], ["no such option", "--zzz", "edgecc targets --help"]),
    (["targets", "a", "b"], ["unexpected extra argument"]),
    (["explain", "E11o"], ["no error code 'E11o'", "did you mean E11"]),
    (["passes", "fuze"], ["no graph pass 'fuze'"]),
    (["ops", "convv"], ["no operator 'convv'", "did you mean conv?"]),
    (["targets", "cortexa76"], ["unknown target 'cortexa76'", "did you mean 'cortex-a76'?"]),
])
def test_mistakes_are_two_lines_and_exit_status_2(cli, arguments, words):
    outcome = cli(*arguments)
    assert outcome.status == 2 and outcome.out == ""
    assert len(outcome.err.splitlines()) == 2
    for word in words:
        assert word in outcome.err


def fail_with(monkeypatch, error: BaseException) -> None:
    app = typer.Typer(add_completion=False)

    @app.command()
    def explain() -> None:
        raise error

    monkeypatch.setattr(edgecc.cli.explain, "app", app)


def test_a_bug_is_exit_status_70_and_a_report(cli, monkeypatch, tmp_path):
    fail_with(monkeypatch, KeyError("odd\x1b[31m"))
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path))
        outcome = cli("explain")
    assert outcome.status == 70 and outcome.out == "" and "\x1b" not in outcome.err
    assert outcome.err.startswith("[E999] KeyError: ")
    (report,) = tmp_path.iterdir()
    assert str(report) in outcome.err
    text = report.read_text()
    assert "Traceback" in text and "arguments: ['explain']" in text and VERSION in text


def test_a_bug_without_a_place_for_the_report(cli, monkeypatch):
    def refuse(**kwargs: str) -> None:
        raise PermissionError

    fail_with(monkeypatch, RecursionError())
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkstemp", refuse)
        outcome = cli("explain")
    assert outcome.status == 70 and "RecursionError: no message" in outcome.err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Abort()])
def test_interruption(cli, monkeypatch, error):
    fail_with(monkeypatch, error)
    assert cli("explain").status == 130


@pytest.mark.parametrize("command", ["explain", "--help"])
def test_a_reader_that_has_seen_enough(command):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "edgecc", command], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("redirections", "printed"), [("<&- >out 2>err", "E001"), (">&- 2>err", ""), (">out 2>&-", "E001"), ("<&- >&- 2>&-", "")])
def test_closed_standard_streams(redirections, printed, tmp_path):
    places = redirections.replace("out", str(tmp_path / "out")).replace("err", str(tmp_path / "err"))
    done = subprocess.run(["bash", "-c", f"{sys.executable} -m edgecc explain E001 {places}"], check=False)
    assert done.returncode == 0
    out, err = ((tmp_path / name).read_text() if (tmp_path / name).exists() else "" for name in ("out", "err"))
    assert out.startswith(printed) and bool(out) == bool(printed) and err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_behind_standard_output():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "edgecc", "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("[E006] standard output") and "No space left" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_full_disk_of_temporary_files_is_no_bug(cli, monkeypatch):
    fail_with(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "/tmp/objects/a.o"))
    monkeypatch.setattr("edgecc.cli._abandon_output", lambda: None)  # standard output is pytest's here
    outcome = cli("explain")
    assert outcome.status == 2 and outcome.err == "[E006] /tmp/objects/a.o: cannot be written: No space left on device\n"


def test_what_a_terminal_cannot_show_is_escaped():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    code = "from edgecc.cli import main; from edgecc.cli.output import results; main(['--version']); results().print('gr\u00f6\u00dfer')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.splitlines()[1] == r"gr\xf6\xdfer"


def test_help_of_a_command_by_either_spelling(cli):
    assert cli("help", "explain").out == cli("explain", "--help").out


def test_explain_knows_every_code(cli):
    listing = cli("explain").out
    for code, kind in CATALOGUE.items():
        assert f"{code}  {kind.title}" in listing
        shown = cli("explain", code.lower())
        assert shown.status == 0 and kind.explanation in shown.out
    table = cli("explain", "[E110]", "--json").json()
    assert table["errors"][0]["code"] == "E110" and table["errors"][0]["exit_status"] == 3


def test_main_takes_the_arguments_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["edgecc", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"edgecc {VERSION}\n"
