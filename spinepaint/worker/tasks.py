"""The Celery worker process: receives job ids and runs them, one at a time or, on a GPU, some together."""

import functools
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from pathlib import Path

from celery import Celery, signals
from celery.worker import state
from structlog.contextvars import bound_contextvars

from spinepaint.imaging.errors import Refusal
from spinepaint.logs import start_logging
from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore, Claim, Ledger
from spinepaint.traces import start_tracing, stop_tracing
from spinepaint.worker.broker import QUEUE, TASK, make_celery
from spinepaint.worker.presence import Presence
from spinepaint.worker.problems import time_problem
from spinepaint.worker.runner import PipelineFunction, Workplace
from spinepaint.worker.together import run_jobs

_log = logging.getLogger(__name__)
EXIT_HUNG = 70
EXIT_BROKEN_GPU = 71
EXIT_UNFIT = 78


def register(celery: Celery, place: Workplace, draws: int = 1) -> None:
    """Give the application its one task; see `run_jobs`."""

    def run(job_id: str) -> None:
        try:
            with bound_contextvars(job=job_id):
                run_jobs(job_id, place, draws)
        except Exception as error:
            # Celery would log the message, which may quote the input. The reaper takes the job back.
            _log.error("job %s: left to the reaper (%s)", job_id, type(error).__name__)
        _end_with_broken_gpu()

    celery.task(run, name=TASK)


def _end_with_broken_gpu() -> None:
    """End the process where its GPU answers with errors: they stay for its life, and every further job would fail on them."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        _log.error("the GPU answers with errors (%s); the worker process is started again", type(error).__name__)
        os._exit(EXIT_BROKEN_GPU)


def asked_to_stop() -> bool:
    """Whether Celery has been sent SIGTERM; its exit status 0 counts as asked."""
    return state.should_stop is not None and state.should_stop is not False


def make_workplace(settings: Settings, worker: str, scratch: Path, run: PipelineFunction | None) -> Workplace:
    """A workplace over the URLs of `settings`; without `run`, the real pipeline (which imports torch)."""
    if run is None:
        from spinepaint.worker.device import compute_for
        from spinepaint.worker.pipeline import run_pipeline

        key = settings.deidentify_key.get_secret_value()
        compute = compute_for(settings.device, settings.worker_batch)
        run = functools.partial(run_pipeline, caps=settings.caps, deidentify_key=key, compute=compute)
    ledger = Ledger(settings.database_url, attempt_limit_s=settings.attempt_limit_s)

    def end_hung_process(claim: Claim) -> None:
        # A thread inside native code cannot be interrupted; the process can be ended, and is started again.
        try:
            ledger.fail(claim.job_id, claim.token, time_problem(claim, "run", settings.job_limit_s), retry=False)
        except Exception as error:
            _log.error("job %s: left to the supervisor (%s)", claim.job_id, type(error).__name__)
        finally:
            os._exit(EXIT_HUNG)

    return Workplace(
        ledger=ledger,
        artifacts=ArtifactStore(settings.artifacts_url),
        run=run,
        worker=worker,
        scratch=scratch,
        bundle=settings.bundle,
        heartbeat_s=settings.heartbeat_s,
        progress_s=settings.progress_s,
        job_limit_s=settings.job_limit_s,
        hang_grace_s=settings.stale_after_s,
        retry_delay_s=settings.retry_delay_s,
        # Nobody takes a job back while the database is away, so what was made is kept for it as long as an attempt may take.
        deliver_within_s=settings.job_limit_s,
        stopping=asked_to_stop,
        on_hang=end_hung_process,
    )


def serve_tasks(settings: Settings, worker: str, scratch: Path, run: PipelineFunction | None = None) -> None:
    """Receive and run jobs in this process until SIGTERM; the running job is then given back to the queue.

    The pool is Celery's `solo`: torch with its threads, or a GPU, is one process's, and a fork below it would gain
    nothing but a process that dies in other ways. What kills or hangs this process is its supervisor's to mend.
    """
    if os.name == "posix":
        os.setpgrp()  # a terminal's Ctrl-C is the supervisor's to hand on, once
    _end_with_parent()
    start_logging(settings.log_format)
    start_tracing(settings.traces_url, "worker")
    signals.setup_logging.connect(_leave_logging_alone)
    celery = make_celery(settings)
    try:
        place = make_workplace(settings, worker, scratch, run)
    except Refusal as refusal:
        _log.error("the worker cannot start: %s", refusal.detail)
        sys.exit(EXIT_UNFIT)
    register(celery, place, settings.worker_batch)
    controller = celery.Worker(
        pool="solo",
        concurrency=1,
        hostname=worker,
        queues=[QUEUE],
        loglevel="INFO",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    with Presence(place.ledger, worker, settings.heartbeat_s):
        controller.start()
    stop_tracing()
    sys.exit(controller.exitcode or 0)


def _leave_logging_alone(**_: object) -> None:
    """Celery sets up logging unless somebody listens for it; its own would tell what tasks raised."""


def _end_with_parent() -> None:
    """Shut down when the supervisor has gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
