"""Where a job and what belongs to it are found, as the gateway answers and webhooks tell."""

from spinepaint.store.models import ACTIVE, Job, JobState


def job_path(job_id: str) -> str:
    """Where a job is."""
    return f"/v1/jobs/{job_id}"


def result_links(job_id: str) -> dict[str, str]:
    """What there is of a job that succeeded."""
    here = job_path(job_id)
    return {"result": f"{here}/result", "report": f"{here}/report", "preview": f"{here}/preview.png"}


def job_links(job: Job) -> dict[str, str]:
    """What can be done with a job as it stands."""
    here = job_path(job.id)
    links = {"self": here, "events": f"{here}/events"}
    if job.series_id is not None:
        links["series"] = f"/v1/series/{job.series_id}"
    if job.state in ACTIVE:
        links["cancel"] = f"{here}/cancel"
    if job.state == JobState.SUCCEEDED:
        links |= result_links(job.id)
    return links
