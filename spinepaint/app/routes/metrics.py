"""Figures for Prometheus."""

from typing import Annotated

from fastapi import APIRouter, Header, Request
from prometheus_client.exposition import choose_encoder
from starlette.responses import Response

from spinepaint.app.openapi import TEXT
from spinepaint.app.threads import FIGURES

OPEN_METRICS = "application/openmetrics-text"
router = APIRouter(tags=["service"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": TEXT}, OPEN_METRICS: {"schema": TEXT}}}},
)
async def metrics(request: Request, accept: Annotated[str, Header()] = "") -> Response:
    """Figures of the ledger and of this gateway, in Prometheus' text format or in OpenMetrics."""
    encode, media_type = choose_encoder(accept)
    # Not in a thread of the routes, which may all wait for the ledger: that it is silent is to be told here.
    figures = await FIGURES.run(encode, request.app.state.metrics.registry)
    return Response(figures, headers={"Content-Type": media_type, "Cache-Control": "no-store"})
