"""The routes of DICOMweb: STOW-RS, QIDO-RS and WADO-RS (PS3.18 10)."""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from spinepaint.app.arriving import patience_of
from spinepaint.app.deps import AllowSynthetic, ArtifactsDep, IntakeDep, LedgerDep, SettingsDep
from spinepaint.app.dicom_web.media import (
    DICOM_JSON,
    bulk_representation,
    frame_representation,
    instance_representation,
    require_json,
)
from spinepaint.app.dicom_web.openapi import DESCRIBED, FOUND, QUERY, RETRIEVED, STORE_BODY, STORED
from spinepaint.app.dicom_web.query import UID, Query, parse_query
from spinepaint.app.dicom_web.results import instance_result, series_result, study_result
from spinepaint.app.dicom_web.retrieve import Archive, bulk_response, frames_response, instances_response, metadata_response
from spinepaint.app.dicom_web.store import received_instances, require_study, store_response
from spinepaint.app.edge import LOOPBACK_HOSTS
from spinepaint.app.openapi import TEXT, named_in
from spinepaint.app.threads import FILES
from spinepaint.imaging.errors import Refusal
from spinepaint.settings import Settings
from spinepaint.store.dicom_book import Located
from spinepaint.store.dicom_keys import Level
from spinepaint.store.ledger import Ledger

PREFIX = "/dicom-web"
router = APIRouter(prefix=PREFIX, tags=["dicom-web"], default_response_class=Response)
_FRAMES = re.compile(r"[0-9]{1,6}(?:,[0-9]{1,6}){0,9999}")

_UID_TEXT = {"type": "string", "maxLength": 64}
_SCHEMAS: dict[str, Any] = {
    "study": _UID_TEXT,
    "series": _UID_TEXT,
    "instance": _UID_TEXT,
    "frames": {"type": "string", "pattern": r"^[0-9]{1,6}(,[0-9]{1,6})*$"},
    "tag": TEXT,
}


class Named(NamedTuple):
    """The UIDs that a path names, which are no parameters of a query beside it."""

    study: str | None
    series: str | None
    instance: str | None


def _named(request: Request) -> Named:
    return Named(*(request.path_params.get(name) for name in Named._fields))


NamedDep = Annotated[Named, Depends(_named)]
Route = Callable[..., Any]


def _route(*paths: str, method: str = "GET", body: dict[str, Any] | None = None, **options: Any) -> Callable[[Route], Route]:
    """Answer at each of these paths, and say in the document what each of them names."""

    def added(route: Route) -> Route:
        for path in paths:
            extra = {"parameters": [*named_in(path, **_SCHEMAS), *options.get("parameters", ())], **(body or {})}
            more = {"status_code": 200, "responses": options["responses"], "openapi_extra": extra}
            router.add_api_route(path, route, methods=[method], **more)
        return route

    return added


@_route("/studies", "/studies/{study}", method="POST", body=STORE_BODY, responses=STORED)
async def store(
    request: Request, named: NamedDep, settings: SettingsDep, intake: IntakeDep, allow_synthetic: AllowSynthetic = False
) -> Response:
    """STOW-RS: each series whole in one request, since it is judged as a whole."""
    require_json(request)
    await require_study(request, named.study)
    incoming, patience = settings.data_dir / "incoming", patience_of(settings)
    async with received_instances(request, incoming, settings.caps, patience) as upload:
        stored = await intake.store(upload, named.study, allow_synthetic=allow_synthetic)
    return store_response(stored, _root(request))


@_route("/studies", responses=FOUND, parameters=QUERY)
def search_studies(request: Request, ledger: LedgerDep) -> Response:
    """QIDO-RS for studies."""
    query = _query(request, "study")
    found = ledger.search_studies(query.matches, query.limit + 1, query.offset)
    return _search_response([study_result(study, query, _root(request)) for study in found], query)


@_route("/series", "/studies/{study}/series", responses=FOUND, parameters=QUERY)
def search_series(request: Request, named: NamedDep, ledger: LedgerDep) -> Response:
    """QIDO-RS for series."""
    query = _query(request, "series", StudyInstanceUID=named.study)
    found = ledger.search_series(query.matches, query.limit + 1, query.offset)
    root = _root(request)
    return _search_response([series_result(series, query, root, with_study=named.study is None) for series in found], query)


@_route(
    "/instances",
    "/studies/{study}/instances",
    "/studies/{study}/series/{series}/instances",
    responses=FOUND,
    parameters=QUERY,
)
def search_instances(request: Request, named: NamedDep, ledger: LedgerDep) -> Response:
    """QIDO-RS for instances."""
    query = _query(request, "instance", StudyInstanceUID=named.study, SeriesInstanceUID=named.series)
    found = ledger.search_instances(query.matches, query.limit + 1, query.offset)
    root, outside = _root(request), {"with_study": named.study is None, "with_series": named.series is None}
    return _search_response([instance_result(at, query, root, **outside) for at in found], query)


@_route(
    "/studies/{study}/metadata",
    "/studies/{study}/series/{series}/metadata",
    "/studies/{study}/series/{series}/instances/{instance}/metadata",
    responses=DESCRIBED,
)
def retrieve_metadata(request: Request, named: NamedDep, ledger: LedgerDep) -> Response:
    """WADO-RS: the attributes, with bulk data by reference."""
    require_json(request)
    return metadata_response(ledger, _found(ledger, named), _root(request))


@_route(
    "/studies/{study}",
    "/studies/{study}/series/{series}",
    "/studies/{study}/series/{series}/instances/{instance}",
    responses=RETRIEVED,
)
async def retrieve(
    request: Request, named: NamedDep, settings: SettingsDep, ledger: LedgerDep, artifacts: ArtifactsDep
) -> Response:
    """WADO-RS: the instances of a study, of a series, or one."""
    found = await run_in_threadpool(_found, ledger, named)
    stored = {at.instance.transfer_syntax_uid for at in found}
    form = instance_representation(request, stored, single=named.instance is not None)
    return await FILES.run(instances_response, _archive(artifacts, settings), found, form, _root(request))


@_route("/studies/{study}/series/{series}/instances/{instance}/frames/{frames}", responses=RETRIEVED)
async def retrieve_frames(
    request: Request, named: NamedDep, settings: SettingsDep, ledger: LedgerDep, artifacts: ArtifactsDep
) -> Response:
    """WADO-RS: frames by number from 1, separated by commas."""
    frames = request.path_params["frames"]
    if not _FRAMES.fullmatch(frames):
        raise Refusal("invalid-request", "The list of frames is malformed.", "Frames are numbers from 1.", status=400)
    at = (await run_in_threadpool(_found, ledger, named))[0]
    numbers = [int(number) for number in frames.split(",")]
    form = frame_representation(request, at.instance.transfer_syntax_uid, single=len(numbers) == 1)
    return await FILES.run(frames_response, _archive(artifacts, settings), at, numbers, form, _root(request))


@_route("/studies/{study}/series/{series}/instances/{instance}/bulkdata/{tag}", responses=RETRIEVED)
async def retrieve_bulkdata(
    request: Request, named: NamedDep, settings: SettingsDep, ledger: LedgerDep, artifacts: ArtifactsDep
) -> Response:
    """WADO-RS: a long binary value, under the address that the metadata give."""
    at, tag = (await run_in_threadpool(_found, ledger, named))[0], request.path_params["tag"]
    form = bulk_representation(request)
    return await FILES.run(bulk_response, _archive(artifacts, settings), at, tag, form, _root(request))


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
    return Archive(artifacts, settings.data_dir / "incoming", settings.disk_reserve_bytes)


def _found(ledger: Ledger, named: Named) -> Sequence[Located]:
    study, *uids = [uid for uid in named if uid is not None]
    found = ledger.locate(study, named.series, named.instance) if all(map(UID.fullmatch, (study, *uids))) else []
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
