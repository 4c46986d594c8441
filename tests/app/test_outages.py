"""What is away or full is told as that (503, and when to come again), and what is a defect as a defect."""

import errno
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from obstore.exceptions import GenericError
from sqlalchemy.exc import DataError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore
from spinepaint.store.ledger import Ledger
from tests.app.access_tools import Site, opened
from tests.app.conftest import EDIT, Files, HandWorker, problem_type


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    with opened(settings) as site:
        yield site


def failing(error: Exception) -> Any:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (OperationalError("select", {}, Exception("gone")), 503, "database-unavailable"),
        (InterfaceError("select", {}, Exception("closed")), 503, "database-unavailable"),
        (InternalError("insert", {}, Exception("read only")), 503, "database-unavailable"),
        (NoConnection("QueuePool limit"), 503, "database-unavailable"),
        (GenericError("no route to the bucket"), 503, "artifacts-unavailable"),
        (OSError(errno.ENOSPC, "No space left on device"), 503, "disk-full"),
        (OSError(errno.EACCES, "Permission denied"), 500, "internal-error"),
        (DataError("select", {}, Exception("asked wrongly")), 500, "internal-error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_is_away_is_told_as_that(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, slug: str
) -> None:
    monkeypatch.setattr(Ledger, "list_jobs", failing(error))
    answer = client.get("/v1/jobs")
    assert (answer.status_code, problem_type(answer)) == (status, slug)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert str(error) not in answer.text


def test_a_bucket_that_fails_is_no_defect(
    client: TestClient, job_id: str, worker: HandWorker, upload: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.deliver(job_id)
    for method in ("list", "get", "put_file"):
        monkeypatch.setattr(ArtifactStore, method, failing(GenericError("no route to the bucket")))
    answers = [client.get(f"/v1/jobs/{job_id}/{what}") for what in ("result", "preview.png")]
    answers.append(client.post("/v1/series", files=upload))
    assert [(answer.status_code, problem_type(answer)) for answer in answers] == [(503, "artifacts-unavailable")] * 3


def test_a_full_queue_tells_when_by_the_queue_of_its_own_tenant(site: Site, upload: Files) -> None:
    waits = {}
    for tenant, asked in (("long", 3), ("short", 1)):
        site.app.state.settings = site.settings.model_copy(update={"max_queued_jobs": asked})
        client = site.client(site.key(tenant)[1])
        series_id = client.post("/v1/series", files=upload).raise_for_status().json()["id"]
        answers = [client.post("/v1/jobs", json={"series_id": series_id, **EDIT, "seed": seed}) for seed in range(asked + 1)]
        assert problem_type(answers[-1]) == "over-cap-max-queued-jobs"
        waits[tenant] = [int(answer.headers["retry-after"]) for answer in answers[-2:]]
    # What is told with a refusal is what is told with the last job that was taken.
    assert waits["long"][0] == waits["long"][1] > waits["short"][0] == waits["short"][1]
