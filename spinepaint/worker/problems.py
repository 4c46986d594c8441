"""Problem documents (RFC 9457) of attempts that failed here: a reason and what to do, no traceback, nothing of the patient."""

from typing import Any

from spinepaint.imaging.errors import Refusal
from spinepaint.store import Claim


def _problem(slug: str, title: str, detail: str) -> dict[str, Any]:
    return Refusal(slug, title, detail, status=500).as_problem()


def memory_problem(claim: Claim, stage: str) -> dict[str, Any]:
    """The worker had too little memory."""
    return _problem(
        "out-of-memory",
        "The worker ran out of memory.",
        f"Attempt {claim.attempt} of {claim.max_attempts} ran out of memory in the stage {stage}. "
        "Ask for fewer samples, or give the worker more memory, and submit the job again.",
    )


def disk_problem(claim: Claim, stage: str) -> dict[str, Any]:
    """The worker's disk, or that of the artifact store, is full."""
    return _problem(
        "disk-full",
        "The worker's disk is full.",
        f"Attempt {claim.attempt} of {claim.max_attempts} found no space to write in the stage {stage}. "
        "Free some space for the worker's scratch folder and the artifacts, and submit the job again.",
    )


def time_problem(claim: Claim, stage: str, limit_s: float) -> dict[str, Any]:
    """The attempt took longer than a job may."""
    return _problem(
        "over-time",
        "The job took too long.",
        f"It was stopped in the stage {stage} after {limit_s:g} s, the limit job_limit_s. "
        "Ask for fewer samples or steps, or raise the limit.",
    )


def internal_problem(claim: Claim, stage: str, error: Exception) -> dict[str, Any]:
    """The program failed in a way that it has no word for."""
    return _problem(
        "internal-error",
        "The job stopped on an unexpected error.",
        f"Attempt {claim.attempt} of {claim.max_attempts} stopped in the stage {stage} with {type(error).__name__}. "
        f"The worker's log says where, under job {claim.job_id}; please report it.",
    )
