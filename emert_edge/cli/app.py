"""The application: its commands, and how their errors become a line and an exit status."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

import typer
from typer.core import TyperGroup

from emert_edge.errors import EmertError

__all__ = ["run_command_line"]


class _Reporting(TyperGroup):
    """Turns what a command raises into one line on standard error and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:
            # whoever read our output has gone; what is still buffered must not complain at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except (EmertError, ValueError, TypeError, OSError, MemoryError, EOFError) as error:
            if _debug:
                raise
            typer.echo(f"emert-edge: {_one_line(error)}", err=True)
            raise typer.Exit(1) from None


_debug = False

app = typer.Typer(
    name="emert-edge",
    cls=_Reporting,
    help="What a face shows and what a person feels, from face video and eye behaviour, on the device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from emert_edge import __version__

        typer.echo(f"emert-edge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error. May stand anywhere."),
) -> None:
    """Take what belongs to no command; `--debug` was already taken by `run_command_line`."""


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and not isinstance(error, EmertError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return "out of memory"
    return " ".join(str(error).split()) or type(error).__name__


@cache  # a process may run several commands
def _register_doctor() -> None:
    from emert_edge.cli.doctor import doctor

    app.command("doctor")(doctor)


@cache
def _register_others() -> None:
    from emert_edge.cli.bench import bench
    from emert_edge.cli.build import build
    from emert_edge.cli.bundle import app as bundle_app
    from emert_edge.cli.demo import demo
    from emert_edge.cli.evaluate import evaluate
    from emert_edge.cli.export import export
    from emert_edge.cli.gaze import gaze_app
    from emert_edge.cli.gaze_map import fixation_map
    from emert_edge.cli.quantize import quantize
    from emert_edge.cli.run import record, run
    from emert_edge.cli.train import train

    for name, command in (
        ("demo", demo), ("run", run), ("record", record), ("train", train), ("evaluate", evaluate), ("export", export),
        ("quantize", quantize), ("build", build), ("bench", bench),
    ):  # fmt: skip
        app.command(name)(command)
    app.add_typer(bundle_app, name="bundle")
    gaze_app.command(name="map")(fixation_map)
    app.add_typer(gaze_app, name="gaze")


def run_command_line(arguments: list[str]) -> None:
    """Run one command; ends the process with its status."""
    global _debug
    kept = [argument for argument in arguments if argument != "--debug"]
    _debug = len(kept) < len(arguments)
    _register_doctor()
    if kept[:1] != ["doctor"]:  # it must work where the others cannot load
        _register_others()
    try:
        app(args=kept, prog_name="emert-edge")
    except Exception as error:  # nobody foresaw it: a fault of ours or of a library, but still one line
        if _debug:
            raise
        told = f"{type(error).__name__}: {_one_line(error)}"
        typer.echo(f"emert-edge: {told} (a fault nobody foresaw; --debug shows where)", err=True)
        sys.exit(1)
