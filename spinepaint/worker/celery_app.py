"""`spinepaint worker`: keeps one Celery worker process running, and reaps."""

import logging
import multiprocessing
import os
import shutil
import signal
import socket
import threading
import time
import uuid
from datetime import datetime
from multiprocessing.context import SpawnProcess
from types import FrameType

from spinepaint.settings import Settings
from spinepaint.store import Ledger, migrate
from spinepaint.traces import start_tracing, stop_tracing
from spinepaint.worker.delivery import DeliveryThread
from spinepaint.worker.reaper import make_reaper
from spinepaint.worker.runner import PipelineFunction
from spinepaint.worker.scratch import own_scratch
from spinepaint.worker.standstill import Standstill
from spinepaint.worker.tasks import serve_tasks
from spinepaint.worker.webhooks import WebhookThread

_log = logging.getLogger(__name__)
RESTART_AFTER_S = (0.1, 1.0, 5.0, 15.0)
STEADY_S = 60.0
SILENT_LOOKS = 6
"""In this many steps a supervisor watches the time in which its silent process may say something again."""


class TaskProcess:
    """The Celery worker as a process of its own, started again when it ends unasked."""

    def __init__(self, settings: Settings, ledger: Ledger, run: PipelineFunction | None) -> None:
        """Nothing runs before `tend`."""
        self.worker = ""
        self._settings, self._ledger, self._run = settings, ledger, run
        self._process: SpawnProcess | None = None
        self._scratch = settings.data_dir / "scratch"
        self._silence: Standstill[tuple[str, datetime]] = Standstill(settings.stale_after_s / SILENT_LOOKS, SILENT_LOOKS)
        self._failures, self._started, self._due = 0, 0.0, 0.0

    def tend(self) -> None:
        """Start the process where none runs; take back at once what an ended one was running."""
        now = time.monotonic()
        if self._process is not None and not self._process.is_alive():
            self._process.join()
            _log.warning("the worker process ended with status %s; it is started again", self._process.exitcode)
            self._process = None
            # A job that kills its worker is ended by the ledger's cap; waiting is for a worker that cannot even start.
            steady = self._take_back() or now - self._started > STEADY_S
            self._failures = 0 if steady else self._failures + 1
            self._due = now + RESTART_AFTER_S[min(self._failures, len(RESTART_AFTER_S) - 1)]
        if self._process is None and now >= self._due:
            self._start()

    def watch(self) -> None:
        """Kill a process that is there and says nothing any more.

        What is stopped, or stuck in native code that keeps the interpreter for itself, sees no limit and cannot end itself; and
        whoever takes its job back is as a rule another machine's reaper, which cannot either.
        """
        if self._process is None or not self._silence.is_due:
            return
        try:
            seen_at = self._ledger.seen_at(self.worker)
        except Exception as error:
            _log.warning("whether the worker process is silent cannot be said (%s)", type(error).__name__)
            self._silence.look([])
            return
        if self._silence.look([] if seen_at is None else [(self.worker, seen_at)]):
            _log.error("the worker process has said nothing for %.0f s; it is killed", self._settings.stale_after_s)
            self._silence.forget()
            self.kill()

    def kill(self) -> None:
        """End a process that no longer answers."""
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        """Ask the process to give its job back and end; kill it after the grace time."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.join(self._settings.shutdown_grace_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._take_back()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _start(self) -> None:
        # A name that no earlier process had: what that one ran is known to be over.
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._scratch = own_scratch(self._settings.data_dir / "scratch", os.getpid())
        self._process = multiprocessing.get_context("spawn").Process(
            target=serve_tasks, args=(self._settings, self.worker, self._scratch, self._run), name="spinepaint-tasks"
        )
        self._process.start()
        self._started = time.monotonic()

    def _take_back(self) -> bool:
        """Whether the ended process was in the middle of a job."""
        try:
            self._ledger.leave(self.worker)
            return bool(self._ledger.requeue_worker(self.worker))
        except Exception as error:
            _log.error("its job is left to the reaper (%s)", type(error).__name__)
            return False


def start_worker(settings: Settings, *, run: PipelineFunction | None = None) -> None:
    """Run jobs, reap and deliver, until SIGTERM or SIGINT; by default the database is migrated first.

    This process holds no torch and no jobs: it keeps a second one running that does, and starts that again whenever it
    dies. `run` is the pipeline, a function that can be imported by name; the real one where it is None.
    """
    stop_asked = False

    def ask_to_stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stop_asked
        stop_asked = True

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ask_to_stop)
        signal.signal(signal.SIGINT, ask_to_stop)
    if settings.migrate_at_start:
        migrate(settings.database_url)
    start_tracing(settings.traces_url, "sender")
    tasks = TaskProcess(settings, Ledger(settings.database_url, attempt_limit_s=settings.attempt_limit_s), run)
    reaper = make_reaper(settings)
    senders = (DeliveryThread(settings), WebhookThread(settings))
    for sender in senders:
        sender.start()
    try:
        while not stop_asked:
            tasks.tend()
            tasks.watch()
            if any(lost.worker == tasks.worker for lost in reaper.tick()):
                tasks.kill()
            time.sleep(settings.announce_every_s)
    finally:
        tasks.stop()
        for sender in senders:
            sender.stop(1.0)
        stop_tracing()
