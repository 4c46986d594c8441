"""The service itself: what it can do, and whether it is well."""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from spinepaint import __version__
from spinepaint.app.bundle import bundle_folder, describe_bundle
from spinepaint.app.choices import Localiser, Method, Solver
from spinepaint.app.deps import SettingsDep
from spinepaint.app.health import SPARED, Readiness
from spinepaint.app.openapi import READY
from spinepaint.app.problems import RETRY_AFTER_S, problem_response
from spinepaint.app.schemas import MAX_SAMPLES, Capabilities, PathologyView
from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.vocabulary import SEVERITIES, Fsu

router = APIRouter(tags=["service"])


@router.get("/v1/capabilities")
def capabilities(settings: SettingsDep) -> Capabilities:
    """What can be asked of this service, with which weights and under which limits."""
    caps = settings.caps
    return Capabilities(
        version=__version__,
        pathologies=[PathologyView(pathology=p, severities=list(severities)) for p, severities in SEVERITIES.items()],
        fsus=list(Fsu),
        methods=list(Method),
        solvers=list(Solver),
        localisers=list(Localiser),
        bundle=describe_bundle(bundle_folder(settings)),
        limits={
            "upload_bytes": caps.upload_bytes,
            "upload_files": caps.upload_files,
            "inflated_bytes": caps.inflated_bytes,
            "pixels_per_series": caps.pixels_per_series,
            "max_queued_jobs": settings.max_queued_jobs,
            "max_batch_jobs": settings.max_batch_jobs,
            "max_batch_bytes": settings.max_batch_bytes,
            "max_samples": MAX_SAMPLES,
        },
    )


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process answers. It waits for no thread: whatever those wait for, a restart would not mend it."""
    return {"status": "live"}


@router.get("/health/ready", response_model=None, responses={200: READY})
async def ready(request: Request) -> Response:
    """Whether requests can be served: the database, the artifact store and the weights answer in time, or 503.

    Without the broker it is `degraded`, and 200 all the same: what needs no worker goes on, and accepted jobs wait for one.
    """
    readiness: Readiness = request.app.state.readiness
    failing = await readiness.failing()
    if not failing:
        return JSONResponse({"status": "ready"})
    parts = ", ".join(f"{name} ({how})" for name, how in failing.items())
    detail = f"Not answering: {parts}."
    if SPARED.issuperset(failing):
        return JSONResponse({"status": "degraded", "detail": detail, "failing": list(failing)})
    refusal = Refusal("not-ready", "The service is not ready.", detail, status=503)
    return problem_response(refusal, {"Retry-After": RETRY_AFTER_S}, failing=list(failing))
