"""Log lines: JSON with what is ours to say, and nothing that a file may have said."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars

from spinepaint.logs import LogFormat, make_formatter

NAME = "Doe^Jane"


class Lines:
    """What loggers wrote."""

    def __init__(self, log_format: LogFormat = "json") -> None:
        self.stream = io.StringIO()
        self.handler = logging.StreamHandler(self.stream)
        self.handler.setFormatter(make_formatter(log_format))

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    logging.getLogger().addHandler(lines.handler)
    yield lines
    logging.getLogger().removeHandler(lines.handler)


def test_a_record_of_ours(lines: Lines) -> None:
    with bound_contextvars(job="j-1"):
        logging.getLogger("spinepaint.x").warning("try %d of %d", 1, 3, extra={"status": 503, "patient": NAME})
    (line,) = lines.all()
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "try 1 of 3", "level": "warning", "logger": "spinepaint.x", "job": "j-1", "status": 503}


def fail() -> None:
    try:
        raise KeyError(NAME)
    except KeyError as error:
        raise ValueError(f"cannot read {NAME}") from error


def test_an_exception_keeps_its_type_and_its_place(lines: Lines) -> None:
    for name in ("spinepaint.x", "uvicorn.error", "asyncio"):
        try:
            fail()
        except ValueError:
            logging.getLogger(name).exception("it broke", stack_info=True)
    found = lines.all()
    assert [line["error"] for line in found] == ["ValueError"] * 3
    assert all("test_logs.py:" in line["at"] for line in found)
    assert [line["event"] == "it broke" for line in found] == [True, True, False]
    assert NAME not in lines.stream.getvalue()


@pytest.mark.parametrize(
    "name", ["pydicom", "pydicom.valuerep", "py.warnings", "highdicom", "sqlalchemy.engine", "celery.app.trace"]
)
def test_of_other_libraries_only_where(lines: Lines, name: str) -> None:
    logging.getLogger(name).error(f"Invalid value for VR PN: '{NAME}'")
    logging.getLogger(name).error("Invalid value for VR PN: %r", NAME)
    for line in lines.all():
        assert (line["logger"], line["at"].partition(":")[0]) == (name, "test_logs.py")
        assert "withheld" in line["event"]
    assert NAME not in lines.stream.getvalue()


def test_lines_for_people_are_guarded_too() -> None:
    lines = Lines("text")
    logger = logging.getLogger("pydicom.x")
    logger.addHandler(lines.handler)
    try:
        logger.error(NAME)
        logger.error("x", exc_info=ValueError(NAME))
    finally:
        logger.removeHandler(lines.handler)
    text = lines.stream.getvalue()
    assert ("withheld" in text, "ValueError" in text, NAME in text) == (True, True, False)


PROGRAM = f"""
import logging, threading, warnings
from spinepaint.logs import start_logging
start_logging()
warnings.warn("{NAME}")
logging.getLogger().error("{NAME}")
logging.getLogger("pydicom").warning("{NAME}")
logging.getLogger("spinepaint.y").info("ours")
def fail():
    raise ValueError("{NAME}")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""


def test_a_whole_process_says_nothing_of_it(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in found] == ["warning", "error", "warning", "info", "error", "critical"]
    assert [line.get("error") for line in found[-2:]] == ["ValueError", "ValueError"]
    assert NAME not in done.stderr + done.stdout
