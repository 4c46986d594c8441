"""What the API says of batches."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field

from spinepaint.links import job_path, result_links
from spinepaint.store.batches import BatchItem
from spinepaint.store.models import ACTIVE, Batch, JobState

Counts = Mapping[JobState, int]


class BatchItemView(BaseModel):
    """An item of a batch, which is a job of its own; `index` counts from 0 in the order of submission."""

    index: int
    job_id: UUID
    series_id: UUID | None
    spec: dict[str, Any]
    state: JobState
    stage: str | None
    progress: Annotated[float, Field(ge=0, le=1)]
    attempts: int
    started_at: datetime | None
    finished_at: datetime | None
    problem: dict[str, Any] | None = None
    links: dict[str, str]

    @classmethod
    def of(cls, item: BatchItem) -> Self:
        """The view of a ledger row; the source's UID stays out of the spec, as out of a job's view."""
        links = {"self": job_path(item.job_id)}
        if item.state == JobState.SUCCEEDED:
            links |= result_links(item.job_id)
        return cls(
            index=item.index,
            job_id=UUID(item.job_id),
            series_id=None if item.series_id is None else UUID(item.series_id),
            spec={name: value for name, value in item.spec.items() if name != "series_uid"},
            state=JobState(item.state),
            stage=item.stage,
            progress=item.progress,
            attempts=item.attempts,
            started_at=item.started_at,
            finished_at=item.finished_at,
            problem=item.problem,
            links=links,
        )


class BatchView(BaseModel):
    """A batch as it stands: how many items are in each state; `links` has what can be done with it now.

    `state` is queued until the first item has begun, running until the last has ended, then finished. `total` counts the items
    that there are; those whose jobs were deleted are not among them.
    """

    id: UUID
    state: Literal["queued", "running", "finished"]
    total: int
    counts: dict[JobState, int]
    created_at: datetime
    links: dict[str, str]

    @classmethod
    def of(cls, batch: Batch, counts: Counts, **more: Any) -> Self:
        """The view of a ledger row and of its counts."""
        return cls(
            id=UUID(batch.id),
            state=_state(counts),
            total=sum(counts.values()),
            counts=dict(counts),
            created_at=batch.created_at,
            links=_links(batch.id, counts),
            **more,
        )


class BatchDetail(BatchView):
    """A batch with its items, in the order of submission; null where they were not asked for."""

    items: list[BatchItemView] | None

    @classmethod
    def with_items(cls, batch: Batch, counts: Counts, items: Sequence[BatchItem] | None) -> Self:
        """The view of a batch and of those of its items."""
        return cls.of(batch, counts, items=None if items is None else [BatchItemView.of(item) for item in items])


class BatchPageView(BaseModel):
    """Batches, newest first; `next` is the cursor of the page that follows, null at the end."""

    batches: list[BatchView]
    next: str | None


def batch_path(batch_id: str) -> str:
    """Where a batch is."""
    return f"/v1/batches/{batch_id}"


def active(counts: Counts) -> int:
    """How many items have not ended."""
    return sum(counts[JobState(state)] for state in ACTIVE)


def _state(counts: Counts) -> Literal["queued", "running", "finished"]:
    if not active(counts):
        return "finished"
    return "queued" if counts[JobState.QUEUED] == sum(counts.values()) else "running"


def _links(batch_id: str, counts: Counts) -> dict[str, str]:
    here = batch_path(batch_id)
    links = {"self": here}
    if active(counts):
        links |= {"cancel": f"{here}/cancel", "partial_result": f"{here}/result?partial=true"}
    else:
        links["result"] = f"{here}/result"
    if counts[JobState.FAILED] + counts[JobState.CANCELLED]:
        links["retry"] = f"{here}/retry"
    return links
