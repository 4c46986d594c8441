"""Claim a job, run the pipeline on it, deliver what came out: once, or with a reason that a person can act on."""

import logging
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from spinepaint.imaging.dicom_index import index_instance
from spinepaint.imaging.errors import Refusal, is_disk_full
from spinepaint.store import ArtifactStore, Claim, JobState, Ledger, StoredInstance, StoredSeries, by_series, result_prefix
from spinepaint.store.artifacts import StoreError
from spinepaint.traces import Attributes, span
from spinepaint.worker.attempt import Attempt, AttemptLost, OverTime, WorkerStopping
from spinepaint.worker.problems import disk_problem, internal_problem, memory_problem, time_problem
from spinepaint.worker.sending import recorded

_log = logging.getLogger(__name__)


class PipelineFunction(Protocol):
    """What the runner runs; `worker.pipeline.run_pipeline` is one."""

    def __call__(
        self, source: Path, spec: dict[str, Any], out: Path, *, bundle: Path | None, progress: Callable[[str, float], None]
    ) -> dict[str, Any]:
        """Read `source`, write the results below `out`, return the report; raise Refusal for bad input."""


class Outcome(StrEnum):
    """What became of a message from the broker."""

    SKIPPED = "skipped"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    RETRIED = "retried"
    FAILED = "failed"
    RELEASED = "released"
    LOST = "lost"


def _never() -> bool:
    return False


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Workplace:
    """Where a worker works and how patient it is; times in seconds, as in `Settings`."""

    ledger: Ledger
    artifacts: ArtifactStore
    run: PipelineFunction
    worker: str
    scratch: Path
    bundle: Path | None = None
    heartbeat_s: float = 5.0
    progress_s: float = 0.5
    job_limit_s: float = 3600.0
    hang_grace_s: float = 60.0
    retry_delay_s: float = 10.0
    deliver_within_s: float = 60.0
    stopping: Callable[[], bool] = _never
    on_hang: Callable[[Claim], None] | None = None


def run_job(job_id: str, place: Workplace) -> Outcome:
    """Try a job once: the one whose turn it is, for which the message about this one is as good as any; else this one.

    Only a database that does not answer makes this raise; the reaper takes the job back then.
    """
    claim = claim_for(job_id, place)
    return Outcome.SKIPPED if claim is None else run_claim(claim, place)


def claim_for(job_id: str, place: Workplace) -> Claim | None:
    """Take the job whose turn it is; where there is none, the one of which a message came."""
    return place.ledger.claim_next(place.worker) or place.ledger.claim(job_id, place.worker)


def run_claim(claim: Claim, place: Workplace) -> Outcome:
    """One attempt at a job that was taken, with its heartbeat."""
    on_hang = place.on_hang
    attempt = Attempt(
        place.ledger,
        claim,
        heartbeat_s=place.heartbeat_s,
        progress_s=place.progress_s,
        limit_s=place.job_limit_s,
        grace_s=place.hang_grace_s,
        stopping=place.stopping,
        on_hang=_nothing if on_hang is None else lambda: on_hang(claim),
    )
    _log.info("job %s: attempt %d of %d", claim.job_id, claim.attempt, claim.max_attempts)
    told: Attributes = {"job.id": claim.job_id, "job.attempt": claim.attempt}
    with attempt, span("job", claim.trace_parent, "CONSUMER", told) as traced:
        outcome = _try(claim, attempt, place)
        traced.tell({"job.outcome": outcome.value})
        if outcome in (Outcome.REFUSED, Outcome.RETRIED, Outcome.FAILED):
            traced.fail(outcome.value)
    if outcome is not Outcome.SUCCEEDED:
        _withdraw(claim, place)
    _log.info("job %s: %s", claim.job_id, outcome)
    return outcome


def _try(claim: Claim, attempt: Attempt, place: Workplace) -> Outcome:
    """The attempt itself, with every way in which it can end told to the ledger."""
    try:
        return _run(claim, attempt, place)
    except AttemptLost:
        return Outcome.LOST
    except WorkerStopping:
        return Outcome.RELEASED if place.ledger.release(claim.job_id, claim.token) else Outcome.LOST
    except Refusal as refusal:
        return _fail(claim, place, refusal.as_problem(), retry=False, otherwise=Outcome.REFUSED)
    except OverTime:
        return _fail(claim, place, time_problem(claim, attempt.stage, place.job_limit_s), retry=False)
    except Exception as error:
        # The message may quote the input, so the log gets the kind of error and where it arose, and nothing else.
        _log.error("job %s: %s in stage %s at %s", claim.job_id, type(error).__name__, attempt.stage, _where(error))
        if isinstance(error, StoreError) and not place.artifacts.answers():
            # No job's fault: were it counted, a bucket that is away for minutes would fail all that wait.
            later = timedelta(seconds=place.retry_delay_s)
            return Outcome.RELEASED if place.ledger.release(claim.job_id, claim.token, later) else Outcome.LOST
        # torch has a class of its own for a GPU's memory, and this process need not have imported torch.
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            problem = memory_problem(claim, attempt.stage)
        elif is_disk_full(error):
            problem = disk_problem(claim, attempt.stage)
        else:
            problem = internal_problem(claim, attempt.stage, error)
        return _fail(claim, place, problem, retry=True)


def _run(claim: Claim, attempt: Attempt, place: Workplace) -> Outcome:
    place.scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=place.scratch) as name:
        folder = Path(name)
        attempt.progress("fetch", 0.0)
        (folder / "source").mkdir()
        with span("fetch"):
            source = place.artifacts.copy_out(claim.artifact_key, folder / "source")
        out = folder / "out"
        out.mkdir()
        report = place.run(source, claim.spec, out, bundle=place.bundle, progress=attempt.progress)
        attempt.progress("deliver", 1.0)
        prefix = result_prefix(claim.job_id, claim.token)
        with span("deliver"):
            place.artifacts.put_folder(prefix, out)
            dicom = _indexed(out, prefix)
    attempt.check()
    # The work is done, and delivering twice is harmless.
    deliver = partial(place.ledger.succeed, claim.job_id, claim.token, report, prefix, dicom)
    return Outcome.SUCCEEDED if recorded(deliver, place.deliver_within_s) else Outcome.LOST


def _indexed(out: Path, prefix: str) -> list[StoredSeries]:
    """The DICOM objects of a result, as DICOMweb finds them and destinations get them."""
    found = []
    for path in sorted(out.rglob("*.dcm")):
        with path.open("rb") as stream:
            indexed = index_instance(stream)
        if indexed is not None:
            found.append(StoredInstance(prefix + path.relative_to(out).as_posix(), indexed.as_dict()))
    return by_series(found)


def _fail(
    claim: Claim, place: Workplace, problem: dict[str, Any], *, retry: bool, otherwise: Outcome = Outcome.FAILED
) -> Outcome:
    delay = timedelta(seconds=place.retry_delay_s * 2 ** (claim.attempt - 1))
    state = place.ledger.fail(claim.job_id, claim.token, problem, retry, delay)
    if state is None:
        return Outcome.LOST
    return Outcome.RETRIED if state is JobState.QUEUED else otherwise


def _withdraw(claim: Claim, place: Workplace) -> None:
    """Delete what this attempt stored, unless it was delivered after all; the reaper deletes what stays."""
    if place.ledger.holds(claim.job_id, claim.token):
        return
    try:
        place.artifacts.delete_prefix(result_prefix(claim.job_id, claim.token))
    except Exception as error:
        _log.warning("job %s: files of a lost attempt not deleted yet (%s)", claim.job_id, type(error).__name__)


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-6:])
