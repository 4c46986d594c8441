"""What the commands print: JSON to stdout, everything for people to stderr."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from spinepaint.imaging.errors import Refusal

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3

Report = Callable[[str, float], None]


def print_json(document: dict[str, Any]) -> None:
    """One JSON document to stdout."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def print_problem(refusal: Refusal, *, as_json: bool) -> None:
    """The problem document: to stdout when the caller asked for JSON, else to stderr."""
    stream = sys.stdout if as_json else sys.stderr
    json.dump(refusal.as_problem(), stream, indent=2, ensure_ascii=False)
    stream.write("\n")


@contextmanager
def progress_bar() -> Iterator[Report]:
    """A bar on stderr; yields `report(stage, fraction)` with the fraction of the whole, 0 to 1.

    It is full, and says so, once the block has ended well.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<24}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("starting", total=1.0)

        def report(stage: str, fraction: float) -> None:
            progress.update(task, description=stage, completed=fraction)

        yield report
        report("done", 1.0)
