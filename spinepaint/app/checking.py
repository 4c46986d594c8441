"""The dry run, in a process of its own: `spinepaint check`, and `POST /v1/series:check`."""

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from spinepaint.app.reader import answer_once, read_apart
from spinepaint.imaging.caps import Caps
from spinepaint.imaging.check_report import CheckReport, FileVerdict
from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.read_names import shown_name


def check_apart(
    source: Path,
    series_uid: str | None,
    caps: Caps,
    *,
    allow_synthetic: bool = False,
    answer_to: Callable[[str], str] = answer_once,
) -> dict[str, Any]:
    """The report over a source, `CheckReport.as_dict`, whatever is in it.

    Where the reading itself came to an end (a decoder crashed, it took too long or too much memory), each file is refused
    for that. Raises Refusal 503 where that says nothing of the source.
    """
    try:
        return read_apart("check", source, series_uid, caps, allow_synthetic=allow_synthetic, answer_to=answer_to)
    except Refusal as refusal:
        if refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR:  # no verdict, but something to come back from
            raise
        paths = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
        reason = f"not judged: {refusal.title}"
        files = tuple(FileVerdict(shown_name(path.name), "refused", reason) for path in paths)
        return CheckReport(None, (), files, (), refusal).as_dict()


def survive_reading(source: Path, series_uid: str | None, caps: Caps, *, allow_synthetic: bool = False) -> None:
    """Raise Refusal where reading a source would end this process, so that a command can read it here after all.

    What else there is against the source is for that reading to say.
    """
    try:
        read_apart("check", source, series_uid, caps, allow_synthetic=allow_synthetic)
    except Refusal as refusal:
        if refusal.type == "upload-unreadable" or refusal.type == caps.refusal("reader_memory_bytes", "").type:
            raise
