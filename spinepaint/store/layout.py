"""Where artifacts lie: the one place that builds their keys."""

import uuid


def new_id() -> str:
    """An unguessable identifier: 122 random bits as 36 characters (RFC 9562, version 4)."""
    return str(uuid.uuid4())


def source_prefix(series_id: str) -> str:
    """Folder of an uploaded series' files."""
    return f"sources/{series_id}/"


def job_prefix(job_id: str) -> str:
    """Folder of everything that any attempt at a job delivered."""
    return f"results/{job_id}/"


def result_prefix(job_id: str, token: str) -> str:
    """Folder of what one attempt at a job delivered; no two attempts share one."""
    return f"{job_prefix(job_id)}{token}/"
