"""The `spinepaint` command. Commands import what is heavy inside themselves, so that help starts at once."""

import logging
import os
import sys

import typer

from spinepaint.app.cli import database, evaluate, keys, paint, segment, series, service, train
from spinepaint.app.cli.missing import why_missing
from spinepaint.app.cli.output import EXIT_FAILED, EXIT_REFUSED, print_problem
from spinepaint.imaging.errors import DiskFull, NotVerified, Refusal, is_disk_full

INTERRUPTED = 130  # how typer says Ctrl-C; the contract has 1 for it

app = typer.Typer(
    name="spinepaint",
    help="Put a chosen pathology into a real lumbar-spine MRI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("inpaint")(paint.inpaint)
app.command("check")(series.check)
app.command("localise")(series.localise)
app.command("segment")(segment.segment)
app.command("serve")(service.serve)
app.command("worker")(service.worker)
app.command("migrate")(database.migrate)
app.add_typer(keys.app, name="keys")
app.command("audit")(keys.audit)
app.command("demo")(service.demo)
app.command("phantom")(train.phantom)
app.command("train")(train.train)
app.command("manifest")(train.manifest)
app.command("evaluate")(evaluate.evaluate)


def main() -> None:
    """Run the command line; no traceback reaches the user unless SPINEPAINT_DEBUG is set."""
    debug = bool(os.environ.get("SPINEPAINT_DEBUG"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except Refusal as refusal:
        print_problem(refusal, as_json="--json" in sys.argv)
        sys.exit(EXIT_FAILED if isinstance(refusal, NotVerified) else EXIT_REFUSED)
    except SystemExit as end:
        sys.exit(EXIT_FAILED if end.code == INTERRUPTED else end.code)
    except (OSError, DiskFull) as error:
        print(f"spinepaint: {_system_says(error)}", file=sys.stderr)
        sys.exit(_failed(debug))
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and (reason := why_missing(error)):
            print(f"spinepaint: {reason}", file=sys.stderr)
            sys.exit(_failed(debug))
        print(f"spinepaint failed ({type(error).__name__}). Set SPINEPAINT_DEBUG=1 to see where.", file=sys.stderr)
        sys.exit(_failed(debug))


def _system_says(error: OSError | DiskFull) -> str:
    """What the operating system refused, and where, in words."""
    where = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
    if isinstance(error, DiskFull) or is_disk_full(error):
        return f"The disk is full{where}. Free some space, or name another folder."
    return f"{error.strerror or type(error).__name__}{where}"


def _failed(debug: bool) -> int:
    if debug:
        logging.getLogger(__name__).exception("traceback, asked for by SPINEPAINT_DEBUG")
    return EXIT_FAILED
