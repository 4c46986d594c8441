"""The ledger as a worker sees it. Every write carries the attempt's token, so a worker that lost its job changes nothing."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, select, update
from sqlalchemy.orm import Session

from spinepaint.store.database import Database, utc_now
from spinepaint.store.dicom_entries import StoredSeries, enter_dicom
from spinepaint.store.models import Job, JobState, Series
from spinepaint.store.tallies import TRANSITIONS, count
from spinepaint.store.transitions import announce, change, owe_at_end, record, schedule_attempt_discard


@dataclass(frozen=True)
class Claim:
    """One attempt at a job: what a worker needs to run it, and the token that its writes carry."""

    job_id: str
    token: str
    attempt: int
    max_attempts: int
    spec: dict[str, Any]
    artifact_key: str
    trace_parent: str | None = None


@dataclass(frozen=True)
class LostAttempt:
    """An attempt whose heartbeat stopped, who ran it, and what became of the job."""

    job_id: str
    token: str
    worker: str | None
    requeued: bool


_NO_ATTEMPT: dict[str, Any] = {"attempt_token": None, "heartbeat_at": None, "stage": None, "progress": 0.0}


def _stopped_problem(job: Job) -> dict[str, Any]:
    return {
        "type": "https://spinepaint.invalid/problems/worker-stopped",
        "title": "The worker stopped in the middle of the job.",
        "status": 500,
        "detail": f"{job.attempts} of {job.max_attempts} attempts stopped without a word, as when memory runs out or the "
        "machine restarts. Give the worker more memory or look at its log, then submit the job again.",
    }


def _no_series_problem() -> dict[str, Any]:
    return {
        "type": "https://spinepaint.invalid/problems/series-deleted",
        "title": "The series was deleted before the job began.",
        "status": 409,
        "detail": "Upload it again, and submit the job for that.",
    }


def _held(token: str) -> ColumnElement[bool]:
    return and_(Job.state == JobState.RUNNING.value, Job.attempt_token == token)


def _silent_since(moment: datetime) -> ColumnElement[bool]:
    return and_(Job.state == JobState.RUNNING.value, Job.heartbeat_at < moment)


class AttemptBook(Database):
    """Claim, heartbeat, deliver, fail, release; and the taking back of what stopped."""

    def claim(self, job_id: str, worker: str) -> Claim | None:
        """Take a queued job by compare-and-set; None where it is not queued (any more), or fails for want of its series."""
        token, now = uuid.uuid4().hex, utc_now()
        with self.write() as session:
            job = change(
                session,
                job_id,
                Job.state == JobState.QUEUED.value,
                state=JobState.RUNNING,
                attempts=Job.attempts + 1,
                attempt_token=token,
                worker=worker,
                heartbeat_at=now,
                started_at=func.coalesce(Job.started_at, now),
                stage=None,
                progress=0.0,
            )
            if job is None:
                return None
            record(session, job, "state", {"state": JobState.RUNNING.value, "attempt": job.attempts})
            artifact_key = session.scalar(select(Series.artifact_key).where(Series.id == job.series_id))
            if artifact_key is None:
                # In the same transaction: running with nobody at it, it would be taken for the attempt of a worker that stopped.
                self._end(session, job_id, _held(token), _no_series_problem(), False, timedelta(0))
                return None
        return Claim(job_id, token, job.attempts, job.max_attempts, job.spec, artifact_key, job.trace_parent)

    def heartbeat(self, job_id: str, token: str) -> bool:
        """Say that the attempt lives; False where the job is lost or cancelled."""
        with self.write() as session:
            job = session.scalar(select(Job).where(Job.id == job_id, _held(token)).with_for_update())
            if job is not None:
                job.heartbeat_at = utc_now()
        return job is not None

    def progress(self, job_id: str, token: str, stage: str, fraction: float) -> bool:
        """Record the stage and the fraction (0–1) of the whole job; False where the job is lost or cancelled."""
        fraction = min(max(float(fraction), 0.0), 1.0)
        with self.write() as session:
            job = change(session, job_id, _held(token), stage=stage, progress=fraction, heartbeat_at=utc_now())
            if job is not None:
                record(session, job, "progress", {"stage": stage, "progress": fraction})
        return job is not None

    def holds(self, job_id: str, token: str) -> bool:
        """Whether the job is this attempt's: it runs it, or has delivered it."""
        mine = (JobState.RUNNING.value, JobState.SUCCEEDED.value)
        with self.read() as session:
            return bool(session.scalar(select(exists().where(Job.id == job_id, Job.attempt_token == token, Job.state.in_(mine)))))

    def succeed(
        self, job_id: str, token: str, report: dict[str, Any], result_key: str, dicom: Sequence[StoredSeries] = ()
    ) -> bool:
        """Deliver; False where the job is lost or cancelled. Delivering the same attempt again is True and changes nothing.

        `dicom` is what of the result DICOMweb can find, and what is sent to destinations.
        """
        with self.write() as session:
            job = change(
                session,
                job_id,
                _held(token),
                state=JobState.SUCCEEDED,
                progress=1.0,
                report=report,
                result_key=result_key,
                finished_at=utc_now(),
            )
            if job is not None:
                record(session, job, "state", {"state": JobState.SUCCEEDED.value})
                enter_dicom(session, dicom, tenant=job.tenant, job_id=job_id)
                owe_at_end(session, job)
                return True
        return self.holds(job_id, token)

    def fail(
        self, job_id: str, token: str, problem: dict[str, Any], retry: bool, retry_after: timedelta = timedelta(0)
    ) -> JobState | None:
        """End an attempt with a problem document (RFC 9457).

        With `retry` the job is queued again while attempts are left, and announced after `retry_after`; else it fails.
        Returns the job's new state, or None where the job is lost or cancelled.
        """
        with self.write() as session:
            job = self._end(session, job_id, _held(token), problem, retry, retry_after)
            if job is not None:
                # The attempt itself says that it is over, so nobody is writing its files any more.
                schedule_attempt_discard(session, job_id, token, timedelta(0))
        return JobState(job.state) if job is not None else None

    def release(self, job_id: str, token: str, again_after: timedelta = timedelta(0)) -> bool:
        """Give a job back uncounted, as when the worker is asked to stop; False where it is lost or cancelled."""
        with self.write() as session:
            job = change(session, job_id, _held(token), state=JobState.QUEUED, attempts=Job.attempts - 1, **_NO_ATTEMPT)
            if job is not None:
                record(session, job, "state", {"state": JobState.QUEUED.value})
                count(session, TRANSITIONS, "requeued")
                announce(session, job_id, utc_now() + again_after)
                schedule_attempt_discard(session, job_id, token, timedelta(0))
        return job is not None

    def silent_attempts(self, now: datetime, silent_for: timedelta) -> list[str]:
        """The tokens of the attempts whose heartbeat is older than `silent_for`.

        Asked as one who writes: a ledger that only answers readers takes no heartbeat either. Where somebody holds a row, its
        attempt is not silent, or is stuck in the middle of a statement, and waiting for it would hold up who asks.
        """
        since = _silent_since(now - silent_for)
        silent = select(Job.attempt_token).where(since).with_for_update(skip_locked=True)
        with self.write() as session:
            if session.get_bind().dialect.name == "sqlite":  # whose lock alone succeeds on a disk that is full, too
                session.execute(update(Job).where(since).values(heartbeat_at=Job.heartbeat_at))
            return [token for token in session.scalars(silent) if token is not None]

    def requeue_stale(self, now: datetime, stale_after: timedelta, tokens: Collection[str] | None = None) -> list[LostAttempt]:
        """Take back the jobs whose heartbeat is older than `stale_after`: queued again, or failed at the attempt cap.

        With `tokens` of those attempts only.
        """
        stale = _silent_since(now - stale_after)
        return self._take_back(stale if tokens is None else and_(stale, Job.attempt_token.in_(tokens)), self.attempt_limit)

    def requeue_worker(self, worker: str) -> list[LostAttempt]:
        """Take back at once what a worker ran, of which it is known that it has ended."""
        return self._take_back(Job.worker == worker, timedelta(0))

    def _take_back(self, condition: ColumnElement[bool], discard_after: timedelta) -> list[LostAttempt]:
        with self.read() as session:
            running = select(Job).where(Job.state == JobState.RUNNING.value, condition)
            suspects = [(job.id, job.attempt_token or "", job.worker) for job in session.scalars(running)]
        lost = []
        for job_id, token, worker in suspects:
            with self.write() as session:
                job = self._end(session, job_id, and_(_held(token), condition), None, True, timedelta(0))
                if job is not None:
                    schedule_attempt_discard(session, job_id, token, discard_after)
                    lost.append(LostAttempt(job_id, token, worker, job.state == JobState.QUEUED.value))
        return lost

    def _end(
        self,
        session: Session,
        job_id: str,
        condition: ColumnElement[bool],
        problem: dict[str, Any] | None,
        retry: bool,
        retry_after: timedelta,
    ) -> Job | None:
        """Queue a job again, or fail it (without a problem: for having stopped); None where `condition` does not hold."""
        job = session.scalar(select(Job).where(Job.id == job_id, condition).with_for_update())
        if job is None:
            return None
        if retry and job.attempts < job.max_attempts:
            again = change(session, job_id, condition, state=JobState.QUEUED, **_NO_ATTEMPT)
            if again is not None:
                record(session, again, "state", {"state": JobState.QUEUED.value, "attempt": again.attempts})
                announce(session, job_id, utc_now() + retry_after)
            return again
        failed = change(
            session,
            job_id,
            condition,
            state=JobState.FAILED,
            problem=problem or _stopped_problem(job),
            attempt_token=None,
            finished_at=utc_now(),
        )
        if failed is not None:
            record(session, failed, "state", {"state": JobState.FAILED.value})
            owe_at_end(session, failed)
        return failed
