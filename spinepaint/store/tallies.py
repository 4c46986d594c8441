"""Counts and durations of jobs that outlive the jobs: only added to, by those who change the jobs, and folded now and then."""

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from spinepaint.store.database import Database
from spinepaint.store.models import Job, JobState
from spinepaint.store.signal_models import Tally

TRANSITIONS, FAILURES = "transitions", "failures"
WAITED_S, TOOK_S, STAGE_S, ATTEMPTS = "waited_s", "took_s", "stage_s", "attempts"
SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
BOUNDS: Mapping[str, tuple[float, ...]] = {
    WAITED_S: SECONDS,
    TOOK_S: SECONDS,
    STAGE_S: SECONDS,
    ATTEMPTS: (1.0, 2.0, 3.0, 5.0, 10.0),
}
"""Upper bounds of the buckets of what is measured."""
_LABEL = 64
_FOLD_FROM = 2000


def count(session: Session, name: str, label: str) -> None:
    """One more of something."""
    session.add(Tally(name=name, label=label[:_LABEL], bound=None, count=1, total=0.0))


def measure(session: Session, name: str, label: str, value: float) -> None:
    """One observation for a histogram; `value` in seconds, or a number of tries."""
    bound = next((bound for bound in BOUNDS[name] if value <= bound), math.inf)
    # In whole thousandths, which a float adds up exactly in any order: a sum that folding made smaller by a rounding error
    # would look to a monitor like a counter that began again.
    session.add(Tally(name=name, label=label[:_LABEL], bound=bound, count=1, total=float(round(1000 * value))))


def tally_end(session: Session, job: Job) -> None:
    """What there is to count of a job that has just ended. Labels are states, stages and slugs of problems, nothing else."""
    measure(session, ATTEMPTS, job.state, float(job.attempts))
    if job.started_at is not None and job.finished_at is not None:
        measure(session, WAITED_S, "", max(0.0, (job.started_at - job.created_at).total_seconds()))
        measure(session, TOOK_S, job.state, max(0.0, (job.finished_at - job.started_at).total_seconds()))
    if job.state == JobState.FAILED.value:
        count(session, FAILURES, problem_slug(job.problem))
    elif job.state == JobState.SUCCEEDED.value:
        for stage, seconds in _timings(job.report).items():
            measure(session, STAGE_S, stage, seconds)


def merge_tallies(session: Session) -> None:
    """Make one row of the observations about to be written that have a name, label and bound in common."""
    rows: dict[tuple[str, str, float | None], Tally] = {}
    for row in [row for row in session.new if isinstance(row, Tally)]:
        first = rows.setdefault((row.name, row.label, row.bound), row)
        if first is not row:
            first.count, first.total = first.count + row.count, first.total + row.total
            session.expunge(row)


def problem_slug(problem: Mapping[str, Any] | None) -> str:
    """The last part of a problem's type; "unknown" where it has none of the program's own shape."""
    slug = str((problem or {}).get("type", "")).rsplit("/", 1)[-1]
    return slug if slug and all(letter.isascii() and (letter.isalnum() or letter == "-") for letter in slug) else "unknown"


def _timings(report: Mapping[str, Any] | None) -> dict[str, float]:
    timings = (report or {}).get("timings_s")
    found = timings if isinstance(timings, dict) else {}
    return {str(stage): float(seconds) for stage, seconds in found.items() if isinstance(seconds, int | float)}


class TallyBook(Database):
    """Folds what was tallied."""

    def fold_tallies(self, fold_from: int = _FOLD_FROM, limit: int = 20_000) -> int:
        """Make one row of all that have a name, label and bound in common, once there are so many; how many rows went.

        A reader adds rows up in one statement, so it never sees the sum change by this.
        """
        with self.read() as session:
            if (session.scalar(select(func.count()).select_from(Tally)) or 0) < fold_from:
                return 0
        with self.write() as session:
            # Those that another reaper is folding are left to it.
            query = select(Tally).order_by(Tally.id).limit(limit).with_for_update(skip_locked=True)
            rows = list(session.scalars(query))
            folded: dict[tuple[str, str, float | None], Tally] = {}
            for row in rows:
                first = folded.setdefault((row.name, row.label, row.bound), row)
                if first is not row:
                    first.count, first.total = first.count + row.count, first.total + row.total
            kept = {row.id for row in folded.values()}
            gone = [row.id for row in rows if row.id not in kept]
            session.flush()
            for start in range(0, len(gone), 500):
                session.execute(delete(Tally).where(Tally.id.in_(gone[start : start + 500])))
        return len(gone)
