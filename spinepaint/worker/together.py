"""Several jobs at a time, for a GPU: each is claimed, watched, cancelled, delivered or failed by itself."""

import logging

from structlog.contextvars import bound_contextvars

from spinepaint.store import Claim
from spinepaint.worker.runner import Outcome, Workplace, claim_for, run_claim
from spinepaint.worker.side_by_side import side_by_side

_log = logging.getLogger(__name__)


def run_jobs(job_id: str, place: Workplace, draws: int = 1) -> list[Outcome]:
    """Try jobs once: those whose turns they are, as many as have together so many samples to draw.

    Every job of a worker is painted by the same bundle, so what else is to be alike is the sampler's to see to. Where a
    database does not answer this raises once the other jobs have ended; the reaper takes that job back.
    """
    claims = _claims(job_id, place, draws)

    def run(claim: Claim) -> Outcome:
        with bound_contextvars(job=claim.job_id):
            return run_claim(claim, place)

    # One job's end is no reason to stop another.
    return side_by_side(run, claims, max(1, len(claims)), halt=lambda: None)


def _claims(job_id: str, place: Workplace, draws: int) -> list[Claim]:
    first = claim_for(job_id, place)
    claims = [] if first is None else [first]
    while claims and sum(_draws(claim) for claim in claims) < draws:
        try:
            another = place.ledger.claim_next(place.worker)
        except Exception as error:
            # What was claimed is to be run, whatever became of the rest.
            _log.warning("no further jobs were taken (%s)", type(error).__name__)
            break
        if another is None:
            break
        claims.append(another)
    return claims


def _draws(claim: Claim) -> int:
    samples = claim.spec.get("samples")
    return samples if isinstance(samples, int) and samples > 0 else 1
