"""Uploads: taken in, looked up, forgotten, or only checked."""

from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response

from spinepaint.app.arriving import patience_of
from spinepaint.app.deps import AllowSynthetic, IntakeDep, LedgerDep, SettingsDep
from spinepaint.app.openapi import LOCATION, SENT, SERIES_UID, answers, multipart
from spinepaint.app.schemas import SeriesView
from spinepaint.app.uploads import received
from spinepaint.store.errors import UnknownSeries

router = APIRouter(prefix="/v1", tags=["series"])

FORM = frozenset({"series_uid"})


@router.post(
    "/series",
    status_code=201,
    openapi_extra=multipart(series_uid=SERIES_UID),
    responses=answers(*SENT, _201={"description": "Taken in", "headers": LOCATION}),
)
async def create_series(
    request: Request, response: Response, settings: SettingsDep, intake: IntakeDep, allow_synthetic: AllowSynthetic = False
) -> SeriesView:
    """Take a sagittal T2 series in: DICOM files or one zip, checked wholly before anything is kept."""
    async with received(request, settings.data_dir / "incoming", settings.caps, FORM, patience_of(settings)) as upload:
        series = await intake.admit(upload, upload.fields.get("series_uid"), allow_synthetic=allow_synthetic)
    response.headers["Location"] = f"/v1/series/{series.id}"
    return SeriesView.of(series)


@router.post("/series:check", openapi_extra=multipart(series_uid=SERIES_UID), responses=answers(*SENT))
async def check_series(
    request: Request, settings: SettingsDep, intake: IntakeDep, allow_synthetic: AllowSynthetic = False
) -> dict[str, Any]:
    """Say what an upload would be accepted or refused for, and keep nothing."""
    async with received(request, settings.data_dir / "incoming", settings.caps, FORM, patience_of(settings)) as upload:
        return await intake.check(upload, upload.fields.get("series_uid"), allow_synthetic=allow_synthetic)


@router.get("/series/{series_id}", responses=answers(404))
def get_series(series_id: UUID, ledger: LedgerDep) -> SeriesView:
    """A series that was taken in."""
    series = ledger.get_series(str(series_id))
    if series is None:
        raise UnknownSeries
    return SeriesView.of(series)


@router.delete("/series/{series_id}", status_code=204, responses=answers(404, 409))
def delete_series(series_id: UUID, ledger: LedgerDep, results: Literal["keep", "delete"] | None = None) -> None:
    """Forget a series and its files.

    409 while a queued or running job reads it. 409 also where jobs have results of it, which name the patient unless they
    were de-identified, and `results` does not say whether those jobs are deleted with it or kept; `jobs` names them.
    """
    ledger.delete_series(str(series_id), results=results)
