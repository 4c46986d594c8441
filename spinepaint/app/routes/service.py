"""The service itself: what it can do, and whether it is well."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from spinepaint import __version__
from spinepaint.app.bundle import bundle_folder, describe_bundle
from spinepaint.app.choices import Localiser, Method, Solver
from spinepaint.app.deps import SettingsDep
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
def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "live"}


@router.get("/health/ready", response_model=None)
def ready(request: Request) -> dict[str, str] | Response:
    """Everything that a job needs answers in time: the database, the broker, the artifact store, the weights."""
    failing: dict[str, str] = request.app.state.readiness.failing()
    if not failing:
        return {"status": "ready"}
    parts = ", ".join(f"{name} ({how})" for name, how in failing.items())
    refusal = Refusal("not-ready", "The service is not ready.", f"Not answering: {parts}.", status=503)
    return problem_response(refusal, {"Retry-After": RETRY_AFTER_S}, failing=list(failing))
