"""Figures for Prometheus."""

from typing import Annotated

from fastapi import APIRouter, Header, Request
from prometheus_client.exposition import choose_encoder
from starlette.responses import Response

from spinepaint.app.openapi import TEXT

OPEN_METRICS = "application/openmetrics-text"
router = APIRouter(tags=["service"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": TEXT}, OPEN_METRICS: {"schema": TEXT}}}},
)
def metrics(request: Request, accept: Annotated[str, Header()] = "") -> Response:
    """Figures of the ledger and of this gateway, in Prometheus' text format or in OpenMetrics."""
    encode, media_type = choose_encoder(accept)
    return Response(encode(request.app.state.metrics.registry), headers={"Content-Type": media_type, "Cache-Control": "no-store"})
