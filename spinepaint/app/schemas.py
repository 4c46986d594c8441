"""What the API takes and gives. Unknown fields are refused, so that a misspelt option is never ignored."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from pydantic_core import PydanticCustomError

from spinepaint.app.choices import Method, Solver
from spinepaint.imaging.vocabulary import Fsu, Pathology, Severity, condition_index
from spinepaint.store.models import ACTIVE, Job, JobState, Series

MAX_SAMPLES = 64
Millimetre = Annotated[FiniteFloat, Field(ge=-10_000, le=10_000)]


class EditSpec(BaseModel):
    """The edit that is asked for; what is left out is resolved by the pipeline and told in the report."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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

    @model_validator(mode="after")
    def _severity_of_pathology(self) -> Self:
        try:
            condition_index(self.pathology, self.severity)
        except ValueError as error:
            raise PydanticCustomError("severity", "{reason}", {"reason": str(error)}) from None
        return self

    def as_spec(self) -> dict[str, Any]:
        """Plain JSON values for the pipeline, without what the caller left to it."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"series_id"})


class InpaintSpec(EditSpec):
    """The `spec` of `POST /v1/inpaint`: the edit, and which series where the upload holds several."""

    series_uid: Annotated[str, Field(pattern=r"^[0-9.]{1,64}$")] | None = None


class JobRequest(EditSpec):
    """The body of `POST /v1/jobs`."""

    series_id: UUID


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


class JobView(BaseModel):
    """A job as it stands; `links` has what can be done with it now."""

    id: UUID
    state: JobState
    stage: str | None
    progress: Annotated[float, Field(ge=0, le=1)]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    links: dict[str, str]
    problem: dict[str, Any] | None = None

    @classmethod
    def of(cls, job: Job) -> Self:
        """The view of a ledger row."""
        return cls(
            id=UUID(job.id),
            state=JobState(job.state),
            stage=job.stage,
            progress=job.progress,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            attempts=job.attempts,
            links=_links(job),
            problem=job.problem,
        )


def job_path(job_id: str) -> str:
    """Where a job is."""
    return f"/v1/jobs/{job_id}"


def _links(job: Job) -> dict[str, str]:
    here = job_path(job.id)
    links = {"self": here, "events": f"{here}/events"}
    if job.series_id is not None:
        links["series"] = f"/v1/series/{job.series_id}"
    if job.state in ACTIVE:
        links["cancel"] = f"{here}/cancel"
    if job.state == JobState.SUCCEEDED:
        links |= {"result": f"{here}/result", "report": f"{here}/report", "preview": f"{here}/preview.png"}
    return links


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
