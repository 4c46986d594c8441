"""How the service logs: a line of JSON for each record on stderr, and nothing in it that a DICOM file could have said.

Our own messages are written without what is read from files. Of other libraries nobody knows: pydicom quotes values that it
cannot parse, and exceptions do so in their messages. So their records keep where they arose and lose their text, and every
exception keeps its type and its place.
"""

import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor

LogFormat = Literal["json", "text"]

_TOLD = ("spinepaint", "uvicorn", "celery.worker", "celery.apps", "kombu")
"""Loggers whose messages are passed on: they know of jobs, connections and requests, and of no file."""
_FIELDS = ("method", "route", "status", "duration_ms", "key_id")
_WITHHELD = "a library said something of which the text is withheld"
_LONGEST = 2000
_FRAMES = 6


def start_logging(log_format: LogFormat = "json") -> None:
    """Have everything that is logged in this process, warnings and uncaught exceptions included, written to stderr, guarded."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(make_formatter(log_format))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("spinepaint").setLevel(logging.INFO)
    warnings.showwarning = _log_warning
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def make_formatter(log_format: LogFormat = "json") -> logging.Formatter:
    """A formatter for records of every logger."""
    last: Processor = structlog.processors.JSONRenderer()
    if log_format == "text":
        last = structlog.dev.ConsoleRenderer(colors=False)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(allow=_FIELDS),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[_guarded, structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
    )


def _guarded(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Take out what may hold something of a file."""
    record: logging.LogRecord = event["_record"]
    error = event.pop("exc_info", None)
    event.pop("stack_info", None)
    if isinstance(error, tuple) and isinstance(error[1], BaseException):
        event["error"] = type(error[1]).__name__
        event["at"] = where(traceback.extract_tb(error[1].__traceback__))
    if _is_told(record.name):
        event["event"] = str(event["event"])[:_LONGEST]
    else:
        event["event"] = _WITHHELD
        event.setdefault("at", f"{Path(record.pathname).name}:{record.lineno}")
    return event


def _is_told(name: str) -> bool:
    return any(name == told or name.startswith(f"{told}.") for told in _TOLD)


def where(frames: Iterable[traceback.FrameSummary]) -> str:
    """The last places of a traceback, as file and line: no source, no values."""
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in list(frames)[-_FRAMES:])


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: object = None, line: str | None = None
) -> None:
    logging.getLogger(__name__).warning("%s at %s:%d", category.__name__, Path(filename).name, lineno)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger(__name__).critical("the process ended on an error that nobody caught", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and not issubclass(ended.exc_type, SystemExit):
        error = (ended.exc_type, ended.exc_value, ended.exc_traceback)
        logging.getLogger(__name__).error("a thread ended on an error that nobody caught", exc_info=error)
