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
CLOCK_S = 0.05  # psutil derives a process's age from clock ticks and the boot time

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
    created: float
    since: float
    failures: int = 0
    due: float = 0.0


class Supervisor:
    """Starts children, restarts those that end, and ends them all.

    A child may depend on those added before it: when one of them was started again, so is this one. (A
    worker whose broker vanishes while a job runs does not always find its way back to the new one.)

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
                changed = [self._restart_if_ended(place) for place in range(len(self._running))]
                for child in self._wanted:
                    self._running.append(_start(child))
                    changed.append(True)
                self._wanted.clear()
            if any(changed):
                self._write_record()
        for running in reversed(self._running):
            _end(running)
        self._record.unlink(missing_ok=True)

    def _restart_if_ended(self, place: int) -> bool:
        running = self._running[place]
        status = running.process.poll()
        if status is None:
            return False
        now = time.monotonic()
        if not running.due:
            running.failures = 0 if now - running.since > STEADY_S else running.failures + 1
            running.due = now + BACKOFF_S[min(running.failures, len(BACKOFF_S) - 1)]
            _log.warning("%s ended with status %d; starting it again", running.child.name, status)
            end_session(running.process.pid, running.created)
        if now < running.due:
            return False
        if running.child.on_end is not None:
            running.child.on_end()
        again = _start(running.child)
        running.process, running.created, running.since, running.due = again.process, again.created, now, 0.0
        for dependent in self._running[place + 1 :]:
            _end(dependent)
            dependent.due = now  # ended by us, so it is started at once
        return True

    def _write_record(self) -> None:
        draft = self._record.with_suffix(".new")
        draft.write_text(json.dumps([[running.process.pid, running.created] for running in self._running]))
        draft.replace(self._record)


def end_recorded(record: Path) -> None:
    """Kill what is left of the sessions that a record names."""
    try:
        entries = json.loads(record.read_text())
    except (FileNotFoundError, ValueError):
        return
    for pid, created in entries:
        end_session(pid, created)
    record.unlink(missing_ok=True)


def end_session(leader: int, created: float) -> None:
    """Kill every process of the session that `leader`, created at `created`, leads or led.

    Descendants stay in a session when their parents have gone, and while one is left the kernel gives
    the number to nobody else; so a process of that number but another age means that the session is over.
    """
    with suppress(psutil.NoSuchProcess):
        if abs(psutil.Process(leader).create_time() - created) > CLOCK_S:
            return
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader and process.create_time() > created - CLOCK_S:
                left.append(process)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=5)


def _start(child: Child) -> _Running:
    argv = [sys.executable, "-I", leash.__file__, str(os.getpid()), *child.argv]
    with (child.log or Path(os.devnull)).open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own commands
            argv,
            env={**os.environ, **child.env},
            stdin=subprocess.DEVNULL,
            stdout=log if child.log else sys.stderr.fileno(),
            stderr=log if child.log else sys.stderr.fileno(),
            start_new_session=True,
        )
    # Ours and not yet waited for, so it is there even if it has ended.
    return _Running(child, process, psutil.Process(process.pid).create_time(), time.monotonic())


def _end(running: _Running) -> None:
    running.process.terminate()
    try:
        running.process.wait(running.child.grace_s)
    except subprocess.TimeoutExpired:
        _log.warning("%s did not end within %g s; killed", running.child.name, running.child.grace_s)
        running.process.kill()
        running.process.wait()
    end_session(running.process.pid, running.created)
