"""The routes of DICOMweb: STOW-RS, QIDO-RS and WADO-RS (PS3.18 10)."""

import re
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from spinepaint.app.deps import AllowSynthetic, ArtifactsDep, IntakeDep, LedgerDep, SettingsDep
from spinepaint.app.dicom_web.media import (
    DICOM_JSON,
    bulk_representation,
    frame_representation,
    instance_representation,
    require_json,
)
from spinepaint.app.dicom_web.query import UID, Query, parse_query
from spinepaint.app.dicom_web.results import instance_result, series_result, study_result
from spinepaint.app.dicom_web.retrieve import Archive, bulk_response, frames_response, instances_response, metadata_response
from spinepaint.app.dicom_web.store import received_instances, require_study, store_response
from spinepaint.app.edge import LOOPBACK_HOSTS
from spinepaint.imaging.errors import Refusal
from spinepaint.settings import Settings
from spinepaint.store.dicom_book import Located
from spinepaint.store.dicom_keys import Level
from spinepaint.store.ledger import Ledger

PREFIX = "/dicom-web"
router = APIRouter(prefix=PREFIX, tags=["dicom-web"], default_response_class=Response)
_FRAMES = re.compile(r"[0-9]{1,6}(?:,[0-9]{1,6}){0,9999}")


@router.post("/studies")
@router.post("/studies/{study}")
async def store(
    request: Request,
    settings: SettingsDep,
    intake: IntakeDep,
    study: str | None = None,
    allow_synthetic: AllowSynthetic = False,
) -> Response:
    """STOW-RS: each series whole in one request, since it is judged as a whole."""
    require_json(request)
    await require_study(request, study)
    async with received_instances(request, settings.data_dir / "incoming", settings.caps) as upload:
        stored = await intake.store(upload, study, allow_synthetic=allow_synthetic)
    return store_response(stored, _root(request))


@router.get("/studies")
def search_studies(request: Request, ledger: LedgerDep) -> Response:
    """QIDO-RS for studies."""
    query = _query(request, "study")
    found = ledger.search_studies(query.matches, query.limit + 1, query.offset)
    return _search_response([study_result(study, query, _root(request)) for study in found], query)


@router.get("/series")
@router.get("/studies/{study}/series")
def search_series(request: Request, ledger: LedgerDep, study: str | None = None) -> Response:
    """QIDO-RS for series."""
    query = _query(request, "series", StudyInstanceUID=study)
    found = ledger.search_series(query.matches, query.limit + 1, query.offset)
    root = _root(request)
    return _search_response([series_result(series, query, root, with_study=study is None) for series in found], query)


@router.get("/instances")
@router.get("/studies/{study}/instances")
@router.get("/studies/{study}/series/{series}/instances")
def search_instances(request: Request, ledger: LedgerDep, study: str | None = None, series: str | None = None) -> Response:
    """QIDO-RS for instances."""
    query = _query(request, "instance", StudyInstanceUID=study, SeriesInstanceUID=series)
    found = ledger.search_instances(query.matches, query.limit + 1, query.offset)
    root, outside = _root(request), {"with_study": study is None, "with_series": series is None}
    return _search_response([instance_result(at, query, root, **outside) for at in found], query)


@router.get("/studies/{study}/metadata")
@router.get("/studies/{study}/series/{series}/metadata")
@router.get("/studies/{study}/series/{series}/instances/{instance}/metadata")
def retrieve_metadata(
    request: Request, ledger: LedgerDep, study: str, series: str | None = None, instance: str | None = None
) -> Response:
    """WADO-RS: the attributes, with bulk data by reference."""
    require_json(request)
    return metadata_response(ledger, _found(ledger, study, series, instance), _root(request))


@router.get("/studies/{study}")
@router.get("/studies/{study}/series/{series}")
@router.get("/studies/{study}/series/{series}/instances/{instance}")
def retrieve(
    request: Request,
    settings: SettingsDep,
    ledger: LedgerDep,
    artifacts: ArtifactsDep,
    study: str,
    series: str | None = None,
    instance: str | None = None,
) -> Response:
    """WADO-RS: the instances of a study, of a series, or one."""
    found = _found(ledger, study, series, instance)
    stored = {at.instance.transfer_syntax_uid for at in found}
    form = instance_representation(request, stored, single=instance is not None)
    return instances_response(_archive(artifacts, settings), found, form, _root(request))


@router.get("/studies/{study}/series/{series}/instances/{instance}/frames/{frames}")
def retrieve_frames(
    request: Request,
    settings: SettingsDep,
    ledger: LedgerDep,
    artifacts: ArtifactsDep,
    study: str,
    series: str,
    instance: str,
    frames: str,
) -> Response:
    """WADO-RS: frames by number from 1, separated by commas."""
    if not _FRAMES.fullmatch(frames):
        raise Refusal("invalid-request", "The list of frames is malformed.", "Frames are numbers from 1.", status=400)
    at = _found(ledger, study, series, instance)[0]
    numbers = [int(number) for number in frames.split(",")]
    form = frame_representation(request, at.instance.transfer_syntax_uid, single=len(numbers) == 1)
    return frames_response(_archive(artifacts, settings), at, numbers, form, _root(request))


@router.get("/studies/{study}/series/{series}/instances/{instance}/bulkdata/{tag}")
def retrieve_bulkdata(
    request: Request,
    settings: SettingsDep,
    ledger: LedgerDep,
    artifacts: ArtifactsDep,
    study: str,
    series: str,
    instance: str,
    tag: str,
) -> Response:
    """WADO-RS: a long binary value, under the address that the metadata give."""
    at = _found(ledger, study, series, instance)[0]
    return bulk_response(_archive(artifacts, settings), at, tag, bulk_representation(request), _root(request))


def refuse_rendering() -> Response:
    """Rendered images are none of the resources here, whatever media type is accepted."""
    detail = "Retrieve instances or frames; a job's preview is at /v1/jobs/{id}/preview.png."
    raise Refusal("not-found", "Rendered images are not offered.", detail, status=404)


for _of in (
    "",
    "/series/{series}",
    "/series/{series}/instances/{instance}",
    "/series/{series}/instances/{instance}/frames/{frames}",
):
    for _rendering in ("rendered", "thumbnail"):
        router.add_api_route(f"/studies/{{study}}{_of}/{_rendering}", refuse_rendering, include_in_schema=False)


def _root(request: Request) -> str:
    """The address of this service as the client knows it.

    Some clients leave the port out of Host; on a loopback address no proxy can have changed it, so it is known all the same.
    """
    base, server = request.base_url, request.scope.get("server")
    if base.port is None and base.hostname in LOOPBACK_HOSTS and server and server[1]:
        base = base.replace(port=server[1])
    return f"{str(base).rstrip('/')}{PREFIX}"


def _archive(artifacts: Any, settings: Settings) -> Archive:
    return Archive(artifacts, settings.data_dir / "incoming")


def _found(ledger: Ledger, study: str, series: str | None, instance: str | None) -> Sequence[Located]:
    uids = [uid for uid in (study, series, instance) if uid is not None]
    found = ledger.locate(study, series, instance) if all(map(UID.fullmatch, uids)) else []
    if not found:
        raise Refusal("not-found", "Nothing is stored under these UIDs.", status=404)
    return found


def _query(request: Request, level: Level, **within: str | None) -> Query:
    """The query of a request, whose path may name a study and a series."""
    require_json(request)
    fixed = [(name, uid) for name, uid in within.items() if uid is not None]
    if not all(UID.fullmatch(uid) for _, uid in fixed):
        raise Refusal("bad-query", "The path has a UID that is none.", status=400)
    asked = [item for item in request.query_params.multi_items() if item[0] not in within or within[item[0]] is None]
    return parse_query([*asked, *fixed], level)


def _search_response(results: list[dict[str, Any]], query: Query) -> Response:
    """A page of results, 204 where there are none (PS3.18 10.6.3); Warning headers say what was not done as asked."""
    warnings = []
    if len(results) > query.limit:
        results = results[: query.limit]
        warnings.append("There are additional results that can be requested")
    if query.fuzzy:
        warnings.append("The fuzzymatching parameter is not supported. Only literal matching has been performed.")
    if query.unknown:
        warnings.append("An includefield is not known by its keyword; give its tag")
    headers = {"Warning": ", ".join(f'299 spinepaint "{text}"' for text in warnings)} if warnings else None
    if not results:
        return Response(status_code=204, headers=headers)
    return JSONResponse(results, headers=headers, media_type=DICOM_JSON)
