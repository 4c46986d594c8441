"""Child processes that are restarted when they end, and that never outlive this one."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from spinepaint.app import leash

BACKOFF_S = (0.2, 1.0, 5.0, 15.0)
STEADY_S = 30.0
POLL_S = 0.1

_log = logging.getLogger(__name__)


@dataclass
class Child:
    """A program to keep running.

    `grace_s` is how long it may take to end after SIGTERM; `log` is where its output goes, the
    parent's stderr when None; `on_end` is called when it has ended unasked, before it is started again.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    grace_s: float = 5.0
    log: Path | None = None
    on_end: Callable[[], None] | None = None


@dataclass
class _Running:
    child: Child
    process: subprocess.Popen[bytes]
    since: float
    failures: int = 0
    due: float = 0.0


class Supervisor:
    """Starts children, restarts those that end, and ends them all.

    `record` is a file that remembers their process ids, so that a supervisor that starts after this
    one was killed can end what was left behind where the kernel does not.

    One thread starts and ends all children and lives as long as they: the kernel ties their lives to the
    thread that started them, not to the process.
    """

    def __init__(self, record: Path) -> None:
        """Start with no children, after ending those that `record` names."""
        self._record = record
        self._running: list[_Running] = []
        self._wanted: list[Child] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        end_recorded(record)
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def add(self, child: Child) -> None:
        """Have `child` started, and kept running."""
        with self._lock:
            self._wanted.append(child)

    def pids(self) -> dict[str, int]:
        """The process id of each child by name."""
        with self._lock:
            return {running.child.name: running.process.pid for running in self._running}

    def stop(self) -> None:
        """End the children, the last started first: SIGTERM, then SIGKILL after their grace."""
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(POLL_S):
            with self._lock:
                changed = [self._restart_if_ended(running) for running in self._running]
                for child in self._wanted:
                    self._running.append(_Running(child, _start(child), time.monotonic()))
                    changed.append(True)
                self._wanted.clear()
            if any(changed):
                self._write_record()
        for running in reversed(self._running):
            _end(running)
        self._record.unlink(missing_ok=True)

    def _restart_if_ended(self, running: _Running) -> bool:
        status = running.process.poll()
        if status is None:
            return False
        now = time.monotonic()
        if not running.due:
            running.failures = 0 if now - running.since > STEADY_S else running.failures + 1
            running.due = now + BACKOFF_S[min(running.failures, len(BACKOFF_S) - 1)]
            _log.warning("%s ended with status %d; starting it again", running.child.name, status)
            if running.child.on_end is not None:
                running.child.on_end()
        if now < running.due:
            return False
        running.process, running.since, running.due = _start(running.child), now, 0.0
        return True

    def _write_record(self) -> None:
        entries = []
        for running in self._running:
            with suppress(psutil.NoSuchProcess):
                entries.append([running.process.pid, psutil.Process(running.process.pid).create_time()])
        draft = self._record.with_suffix(".new")
        draft.write_text(json.dumps(entries))
        draft.replace(self._record)


def end_recorded(record: Path) -> None:
    """Kill the processes that a record names, with their children, where they are still the same ones."""
    try:
        entries = json.loads(record.read_text())
    except (FileNotFoundError, ValueError):
        return
    for pid, created in entries:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if abs(process.create_time() - created) < 1e-3:
                _log.warning("ending process %d, left behind by a killed service", pid)
                _kill([*process.children(recursive=True), process])
    record.unlink(missing_ok=True)


def _start(child: Child) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-I", leash.__file__, str(os.getpid()), *child.argv]
    with (child.log or Path(os.devnull)).open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own commands
            argv,
            env={**os.environ, **child.env},
            stdin=subprocess.DEVNULL,
            stdout=log if child.log else sys.stderr.fileno(),
            stderr=log if child.log else sys.stderr.fileno(),
            start_new_session=True,
        )


def _end(running: _Running) -> None:
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(running.process.pid).children(recursive=True)
        running.process.terminate()
        try:
            running.process.wait(running.child.grace_s)
        except subprocess.TimeoutExpired:
            _log.warning("%s did not end within %g s; killed", running.child.name, running.child.grace_s)
            children = psutil.Process(running.process.pid).children(recursive=True)
            running.process.kill()
            running.process.wait()
        _kill(children)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=5)
