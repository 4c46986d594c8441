"""What the API takes and gives. Unknown fields are refused, so that a misspelt option is never ignored."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from pydantic_core import PydanticCustomError

from spinepaint.app.choices import Method, Solver
from spinepaint.callbacks import MAX_URL
from spinepaint.destinations import DestinationName
from spinepaint.imaging.vocabulary import SEVERITIES, Fsu, Pathology, Severity, condition_index
from spinepaint.links import job_links
from spinepaint.store.dicom_models import DicomDelivery
from spinepaint.store.models import Delivery, Job, JobState, Series
from spinepaint.store.priorities import Priority

MAX_SAMPLES = 64
ATTEMPTS, MAX_ATTEMPTS = 3, 16
Uid = Annotated[str, Field(pattern=r"^[0-9.]{1,64}$")]
Millimetre = Annotated[FiniteFloat, Field(ge=-10_000, le=10_000)]


_OF_PATHOLOGY: list[Any] = [
    {"properties": {"pathology": {"const": str(pathology)}, "severity": {"enum": [str(severity) for severity in severities]}}}
    for pathology, severities in SEVERITIES.items()
]
"""Which severities go with which pathology, in JSON Schema."""
_ONE_SERIES: list[Any] = [
    {"required": [given], "properties": {given: {"type": "string"}, other: {"type": "null"}}}
    for given, other in (("series_id", "series_uid"), ("series_uid", "series_id"))
]


class EditSpec(BaseModel):
    """The edit that is asked for; what is left out is resolved by the pipeline and told in the report."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"oneOf": _OF_PATHOLOGY})

    pathology: Pathology
    fsu: Fsu
    severity: Severity
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    samples: Annotated[int, Field(ge=1, le=MAX_SAMPLES)] = 1
    method: Method = Method.WEIGHTED
    solver: Solver | None = None
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    landmark_lps_mm: tuple[Millimetre, Millimetre, Millimetre] | None = None
    sigma_mm: Annotated[FiniteFloat, Field(ge=2, le=40)] | None = None
    deidentify: bool | None = None
    new_study: bool = False
    allow_synthetic: bool = False
    """Take a source that says it is synthetic; without it such a source is refused."""
    attempts: Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)] = ATTEMPTS
    """How often a sample is drawn at most until it shows what was asked."""
    require_verified: bool = False
    """Fail where no attempt shows it; without this the result is flagged."""
    destination: DestinationName | None = None
    callback_url: Annotated[str, Field(max_length=MAX_URL)] | None = None
    """Where to tell of the job's end, by a signed webhook."""
    priority: Priority = Priority.NORMAL
    """What goes first among the caller's jobs; others' jobs are not touched by it."""

    @model_validator(mode="after")
    def _severity_of_pathology(self) -> Self:
        try:
            condition_index(self.pathology, self.severity)
        except ValueError as error:
            raise PydanticCustomError("severity", "{reason}", {"reason": str(error)}) from None
        return self

    def as_spec(self) -> dict[str, Any]:
        """Plain JSON values for the pipeline, without what the caller left to it."""
        left_out = {"series_id", "series_uid", "destination", "callback_url", "priority"}
        # What is not chosen stays out, so that a request from before there was the choice keeps its fingerprint.
        later = {"allow_synthetic": False, "attempts": ATTEMPTS, "require_verified": False}
        left_out |= {name for name, default in later.items() if getattr(self, name) == default}
        return self.model_dump(mode="json", exclude_none=True, exclude=left_out)


class InpaintSpec(EditSpec):
    """The `spec` of `POST /v1/inpaint`: the edit, and which series where the upload holds several."""

    series_uid: Uid | None = None


class JobRequest(EditSpec):
    """The body of `POST /v1/jobs`: the series by its id here, or the one stored last under a Series Instance UID."""

    model_config = ConfigDict(json_schema_extra={"allOf": [{"oneOf": _OF_PATHOLOGY}, {"oneOf": _ONE_SERIES}]})

    series_id: UUID | None = None
    series_uid: Uid | None = None

    @model_validator(mode="after")
    def _one_series(self) -> Self:
        if (self.series_id is None) == (self.series_uid is None):
            raise PydanticCustomError("series", "give one of series_id and series_uid")
        return self


class Geometry(BaseModel):
    """Shape (slice, row, column), spacing in mm in that order, and the voxel→patient affine (LPS, mm)."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    affine: list[list[float]]


class SeriesView(BaseModel):
    """A series that was taken in."""

    id: UUID
    series_uid: str
    instances: int
    geometry: Geometry
    warnings: list[str]
    created_at: datetime

    @classmethod
    def of(cls, series: Series) -> Self:
        """The view of a ledger row."""
        return cls(
            id=UUID(series.id),
            series_uid=series.geometry["series_uid"],
            instances=series.geometry["instances"],
            geometry=Geometry.model_validate(series.geometry),
            warnings=series.warnings,
            created_at=series.created_at,
        )


class DeliveryView(BaseModel):
    """A result on its way to a destination: pending, delivered, or failed; `problem` is what the last try met."""

    destination: str
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    problem: dict[str, Any] | None = None

    @classmethod
    def of(cls, delivery: DicomDelivery) -> Self:
        """The view of a ledger row."""
        return cls.model_validate(
            {name: getattr(delivery, name) for name in ("destination", "state", "attempts", "delivered_at", "problem")}
            | {"next_attempt_at": delivery.due_at}
        )


class WebhookView(BaseModel):
    """A webhook on its way to the job's `callback_url`; `problem` is what the last try met."""

    state: Literal["owed", "delivered", "given_up"]
    attempts: int
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    problem: dict[str, Any] | None = None

    @classmethod
    def of(cls, webhook: Delivery) -> Self:
        """The view of a ledger row."""
        return cls.model_validate(
            {name: getattr(webhook, name) for name in ("state", "attempts", "delivered_at", "problem")}
            | {"next_attempt_at": webhook.due_at}
        )


class JobView(BaseModel):
    """A job as it stands; `links` has what can be done with it now."""

    id: UUID
    state: JobState
    priority: Priority
    stage: str | None
    progress: Annotated[float, Field(ge=0, le=1)]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    links: dict[str, str]
    problem: dict[str, Any] | None = None
    deliveries: list[DeliveryView] = []
    webhook: WebhookView | None = None

    @classmethod
    def of(cls, job: Job, deliveries: Sequence[DicomDelivery] = (), webhook: Delivery | None = None) -> Self:
        """The view of a ledger row, of its deliveries, and of its webhook once that is owed."""
        return cls(
            id=UUID(job.id),
            state=JobState(job.state),
            priority=Priority(job.priority),
            stage=job.stage,
            progress=job.progress,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            attempts=job.attempts,
            links=job_links(job),
            webhook=None if webhook is None else WebhookView.of(webhook),
            problem=job.problem,
            deliveries=[DeliveryView.of(delivery) for delivery in deliveries],
        )


class JobPage(BaseModel):
    """Jobs, newest first; `next` is the cursor of the page that follows, null at the end."""

    jobs: list[JobView]
    next: str | None


class PathologyView(BaseModel):
    """A pathology and the severities that go with it."""

    pathology: Pathology
    severities: list[Severity]


class Capabilities(BaseModel):
    """What this service can do."""

    version: str
    pathologies: list[PathologyView]
    fsus: list[Fsu]
    methods: list[Method]
    solvers: list[Solver]
    localisers: list[str]
    bundle: dict[str, Any] | None
    limits: dict[str, int | float]
