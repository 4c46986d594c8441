"""What hangs takes the threads of its kind and no others: probes, keys, files and the rest do not wait for one another."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import anyio.to_thread
import pytest
from fastapi.testclient import TestClient

from spinepaint.app import health
from spinepaint.app.threads import ADMITTING, FILES
from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore, Ledger
from tests.app.access_tools import opened
from tests.app.conftest import HandWorker, problem_type

PATIENCE_S = 60.0
"""For what should come at once."""
SHARED = 2


class Stuck:
    """A call that hangs until it is let go, and then fails."""

    def __init__(self) -> None:
        self._began = threading.Semaphore(0)
        self._let_go = threading.Event()

    def __call__(self, *_arguments: Any, **_options: Any) -> Any:
        self._began.release()
        self._let_go.wait(2 * PATIENCE_S)
        raise ConnectionError("let go")

    @contextmanager
    def times(self, number: int, ask: Callable[[], Any]) -> Iterator[ThreadPoolExecutor]:
        """Have so many requests hang in it, and some more wait for them; they end with the block."""
        with ThreadPoolExecutor() as asking:
            for _ in range(number + 2):
                asking.submit(ask)
            try:
                for _ in range(number):
                    assert self._began.acquire(timeout=PATIENCE_S)
                yield asking
            finally:
                self._let_go.set()


def few_threads(client: TestClient) -> None:
    """Leave the routes of a gateway that runs fewer threads than anyio's forty."""

    def leave() -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = SHARED

    assert client.portal is not None
    client.portal.call(leave)


def test_probes_are_answered_while_all_threads_of_the_routes_hang(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    few_threads(client)
    stuck = Stuck()
    monkeypatch.setattr(Ledger, "list_jobs", stuck)
    with stuck.times(SHARED, lambda: client.get("/v1/jobs")) as asking:
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert asking.submit(client.get, path).result(PATIENCE_S).status_code == 200, path


def test_a_probe_has_its_answer_while_the_database_is_silent(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "READY_TIMEOUT_S", 0.2)
    stuck = Stuck()
    monkeypatch.setattr(Ledger, "ping", stuck)
    with TestClient(client.app, base_url="http://127.0.0.1") as again:
        few_threads(again)
        with stuck.times(1, lambda: again.get("/health/ready")) as asking:
            ready = asking.submit(again.get, "/health/ready").result(PATIENCE_S)
    assert (ready.status_code, ready.json()["failing"]) == (503, ["database", "broker"])
    assert "database (silent for 0.2 s)" in ready.json()["detail"]


@pytest.mark.parametrize(("method", "path"), [("list", "result"), ("stream", "result"), ("get", "preview.png")])
def test_a_silent_bucket_takes_no_thread_of_other_routes(
    client: TestClient, job_id: str, worker: HandWorker, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    worker.deliver(job_id)
    few_threads(client)
    monkeypatch.setattr(FILES, "most", SHARED)
    stuck = Stuck()
    monkeypatch.setattr(ArtifactStore, method, stuck)
    with stuck.times(SHARED, lambda: client.get(f"/v1/jobs/{job_id}/{path}")) as asking:
        assert asking.submit(client.get, "/v1/jobs").result(PATIENCE_S).status_code == 200


@pytest.mark.parametrize("method", ["exists", "stream"])
def test_a_silent_bucket_takes_no_thread_of_dicomweb(
    client: TestClient, series_id: str, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    (study,) = client.get("/dicom-web/studies").json()
    few_threads(client)
    monkeypatch.setattr(FILES, "most", SHARED)
    stuck = Stuck()
    monkeypatch.setattr(ArtifactStore, method, stuck)
    path = f"/dicom-web/studies/{study['0020000D']['Value'][0]}"
    with stuck.times(SHARED, lambda: client.get(path)) as asking:
        assert asking.submit(client.get, f"/v1/series/{series_id}").result(PATIENCE_S).status_code == 200


def test_keys_are_looked_up_while_all_threads_of_the_routes_hang(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(settings) as site:
        headers = {"Authorization": f"Bearer {site.key()[1]}"}
        few_threads(site.nobody)
        stuck = Stuck()
        monkeypatch.setattr(Ledger, "list_jobs", stuck)
        with stuck.times(SHARED, lambda: site.nobody.get("/v1/jobs", headers=headers)) as asking:
            asked = asking.submit(site.nobody.get, "/metrics", headers=headers)
            assert asked.result(PATIENCE_S).status_code == 200
            assert asking.submit(site.nobody.get, "/nowhere").result(PATIENCE_S).status_code == 401


def test_whoever_cannot_be_asked_for_a_key_in_time_is_told_to_come_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ADMITTING, "most", 1)
    monkeypatch.setattr(ADMITTING, "patience_s", 0.1)
    with opened(settings) as site:
        headers = {"Authorization": f"Bearer {site.key()[1]}"}
        stuck = Stuck()
        monkeypatch.setattr(Ledger, "find_key", stuck)
        with stuck.times(1, lambda: site.nobody.get("/v1/jobs", headers=headers)) as asking:
            answer = asking.submit(site.nobody.get, "/v1/jobs", headers=headers).result(PATIENCE_S)
            assert (answer.status_code, problem_type(answer)) == (503, "database-unavailable")
            assert asking.submit(site.nobody.get, "/health/live").result(PATIENCE_S).status_code == 200
