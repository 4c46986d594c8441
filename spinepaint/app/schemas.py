"""What the API takes and gives. Unknown fields are refused, so that a misspelt option is never ignored."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from pydantic_core import PydanticCustomError

from spinepaint.app.choices import Method, Solver
from spinepaint.imaging.vocabulary import Fsu, Pathology, Severity, condition_index

MAX_SAMPLES = 16
State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Millimetre = Annotated[FiniteFloat, Field(ge=-10_000, le=10_000)]


class EditSpec(BaseModel):
    """The edit that is asked for; what is left out is resolved by the pipeline and told in the report."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pathology: Pathology
    fsu: Fsu
    severity: Severity
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    samples: Annotated[int, Field(ge=1, le=MAX_SAMPLES)] = 1
    method: Method = Method.WEIGHTED
    solver: Solver | None = None
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    landmark_lps_mm: tuple[Millimetre, Millimetre, Millimetre] | None = None
    sigma_mm: Annotated[FiniteFloat, Field(gt=0, le=100)] | None = None

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


class JobView(BaseModel):
    """A job as it stands."""

    id: UUID
    state: State
    stage: str | None
    progress: Annotated[float, Field(ge=0, le=1)]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    links: dict[str, str]
    problem: dict[str, Any] | None = None


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
