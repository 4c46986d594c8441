"""Results owed to other systems: who tries when, and what became of it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from spinepaint.store.audit import audit_sending
from spinepaint.store.database import Database, utc_now
from spinepaint.store.dicom_models import DicomDelivery
from spinepaint.store.models import Job, JobState

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"


def owe_delivery(session: Session, job_id: str, destination: str) -> None:
    """Owe a job's result to a destination once there is one."""
    session.add(DicomDelivery(job_id=job_id, destination=destination, state=PENDING, created_at=utc_now()))


def settle_deliveries(session: Session, job: Job) -> None:
    """The job has just ended: its deliveries can be made, or never will be."""
    values: dict[str, Any] = {"due_at": utc_now()}
    if job.state != JobState.SUCCEEDED.value:
        values = {"state": FAILED, "due_at": None, "problem": _no_result_problem(job)}
    session.execute(_of(job.id).where(DicomDelivery.state == PENDING).values(**values))


def _no_result_problem(job: Job) -> dict[str, Any]:
    return {
        "type": "https://spinepaint.invalid/problems/no-result",
        "title": f"The job ended as {job.state}.",
        "status": 409,
        "detail": "There is no result to deliver.",
    }


def _of(job_id: str) -> Any:
    return update(DicomDelivery).where(DicomDelivery.job_id == job_id)


class DicomDeliveryBook(Database):
    """Deliveries of results. A sender takes one for a while, says that it is still at it, and ends it.

    The row's `token` is its own until another takes it, so that one that was taken for dead changes nothing.
    """

    def dicom_deliveries(self, job_ids: Sequence[str]) -> list[DicomDelivery]:
        """The deliveries of some jobs, in a fixed order."""
        query = select(DicomDelivery).where(DicomDelivery.job_id.in_(job_ids))
        with self.read() as session:
            return list(session.scalars(query.order_by(DicomDelivery.job_id, DicomDelivery.destination)))

    def due_dicom_destinations(self, now: datetime) -> list[str]:
        """The destinations to which something can be tried now."""
        due = select(DicomDelivery.destination).where(DicomDelivery.state == PENDING, DicomDelivery.due_at <= now)
        with self.read() as session:
            return list(session.scalars(due.distinct().order_by(DicomDelivery.destination)))

    def due_dicom_deliveries(self, now: datetime, destination: str | None = None, limit: int = 20) -> list[DicomDelivery]:
        """What can be tried now, oldest debt first; to one destination, where one is given."""
        due = select(DicomDelivery).where(DicomDelivery.state == PENDING, DicomDelivery.due_at <= now)
        if destination is not None:
            due = due.where(DicomDelivery.destination == destination)
        with self.read() as session:
            return list(session.scalars(due.order_by(DicomDelivery.due_at).limit(limit)))

    def take_dicom_delivery(self, seen: DicomDelivery, lease: timedelta) -> DicomDelivery | None:
        """Take a delivery that was seen as due, for `lease`; None where another sender has it."""
        taken = {"token": seen.token + 1, "attempts": seen.attempts + 1, "due_at": utc_now() + lease}
        with self.write() as session:
            statement = self._held(seen).where(DicomDelivery.due_at == seen.due_at).values(**taken)
            row: DicomDelivery | None = session.scalar(statement.returning(DicomDelivery))
        return row

    def hold_dicom_delivery(self, taken: DicomDelivery, lease: timedelta) -> bool:
        """Say that the attempt goes on; False where it was taken for dead."""
        return self._settle(taken, due_at=utc_now() + lease)

    def end_dicom_delivery(self, taken: DicomDelivery) -> bool:
        """Record that the destination has everything."""
        return self._settle(taken, True, state=DELIVERED, due_at=None, delivered_at=utc_now(), problem=None)

    def fail_dicom_delivery(self, taken: DicomDelivery, problem: dict[str, Any], retry_after: timedelta | None) -> bool:
        """Record why an attempt failed: tried again after a while, or (None) given up."""
        if retry_after is None:
            return self._settle(taken, True, state=FAILED, due_at=None, problem=problem)
        return self._settle(taken, True, due_at=utc_now() + retry_after, problem=problem)

    def redeliver(self, job_id: str, destination: str) -> bool:
        """Try a delivery that was given up again from the start; False where there is none such, or no result to deliver."""
        done = select(Job.id).where(Job.id == job_id, Job.state == JobState.SUCCEEDED.value)
        again = _of(job_id).where(DicomDelivery.destination == destination, DicomDelivery.state == FAILED)
        with self.write() as session:
            # The lock keeps the job from being forgotten as one of which nothing is owed.
            if session.scalar(done.with_for_update()) is None:
                return False
            # The token goes on from where it was: with the count it would come to be one that an old sender may still have.
            values = {"state": PENDING, "attempts": 0, "due_at": utc_now(), "problem": None}
            return session.scalar(again.values(**values).returning(DicomDelivery.job_id)) is not None

    def _settle(self, taken: DicomDelivery, ended: bool = False, **values: Any) -> bool:
        with self.write() as session:
            statement = self._held(taken).values(**values).returning(DicomDelivery.job_id)
            mine = session.scalar(statement) is not None
            if mine and ended:
                audit_sending(session, taken.job_id, f"delivery {taken.destination}", values["problem"])
        return mine

    @staticmethod
    def _held(delivery: DicomDelivery) -> Any:
        return _of(delivery.job_id).where(
            DicomDelivery.destination == delivery.destination,
            DicomDelivery.state == PENDING,
            DicomDelivery.token == delivery.token,
        )
