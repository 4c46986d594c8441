"""Runs the fuzzer's slice beside the other tests: begun before the first of them, waited for after the last.

It takes two minutes of one core whatever the machine, and most other tests keep one core busy too.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SLICE_S = 120
SLICE_TEST = "test_no_spoilt_file_breaks_the_reader"


@dataclass
class Slice:
    """The fuzzer as a process; its output and the cases that it keeps are in a folder that goes with the session."""

    folder: "tempfile.TemporaryDirectory[str]"
    process: "subprocess.Popen[bytes]"

    @classmethod
    def start(cls) -> "Slice":
        folder = tempfile.TemporaryDirectory(prefix="spinepaint-fuzz-slice-", ignore_cleanup_errors=True)
        argv = [sys.executable, "-m", "tests.fuzz", "--seconds", str(SLICE_S), "--keep", str(Path(folder.name) / "kept")]
        with (Path(folder.name) / "output").open("wb") as output:
            env = os.environ | {"OMP_NUM_THREADS": "1"}
            return cls(folder, subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT, env=env))

    def output(self) -> str:
        """What it printed so far."""
        return (Path(self.folder.name) / "output").read_text()

    def end(self) -> None:
        """Leave nothing of it, also where nobody waited."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()


_KEY = pytest.StashKey[Slice]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the test that waits for it last."""
    items.sort(key=lambda item: item.name == SLICE_TEST)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start it where its test is going to be run."""
    if not session.config.option.collectonly and any(item.name == SLICE_TEST for item in session.items):
        session.config.stash[_KEY] = Slice.start()


def pytest_unconfigure(config: Any) -> None:
    """End it, whatever became of the session."""
    if _KEY in config.stash:
        config.stash[_KEY].end()


@pytest.fixture
def fuzz_slice(request: pytest.FixtureRequest) -> Slice:
    """The running slice."""
    return request.config.stash[_KEY]
