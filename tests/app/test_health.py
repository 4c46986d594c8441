"""Readiness: each part asked, in bounded time, and named where it fails."""

import asyncio
import json
import socket
import threading
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from obstore.exceptions import GenericError
from sqlalchemy.exc import OperationalError

from spinepaint.app.bounded import Bounded
from spinepaint.app.gateway import create_app
from spinepaint.app.health import Readiness
from spinepaint.settings import Settings
from tests.app.conftest import EDIT, Files, HandWorker, problem_type
from tests.attacks.serving import serving
from tests.worker.receivers import raw_receiver


def test_a_part_that_hangs_is_named_in_time_and_asked_once(
    settings: Settings, worker: HandWorker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    released, asked = threading.Event(), []

    def hang() -> None:
        asked.append(1)
        released.wait(120)

    monkeypatch.setattr(worker.ledger, "ping", hang)
    monkeypatch.setattr(worker.artifacts, "ping", lambda: None)
    readiness = Readiness(settings.model_copy(update={"bundle": tmp_path}), worker.ledger, worker.artifacts)
    before = threading.active_count()
    for _ in range(5):
        assert asyncio.run(readiness.failing(0.05)) == {
            "database": "silent for 0.05 s",
            "broker": "no answer",
            "bundle": "no answer",
        }
    assert asked == [1]
    assert threading.active_count() <= before + 1
    released.set()


def test_a_part_that_fails_is_named_without_its_message(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    def down(_ledger: object) -> None:
        raise OperationalError("select", {}, Exception("password of the database"))

    monkeypatch.setattr("spinepaint.store.ledger.Ledger.ping", down)
    monkeypatch.setattr(client.app.state, "readiness", None)  # type: ignore[attr-defined]
    with TestClient(client.app, base_url="http://127.0.0.1") as again:
        answer = again.get("/health/ready")
    assert (answer.status_code, problem_type(answer)) == (503, "not-ready")
    assert "database (no answer (OperationalError))" in answer.json()["detail"]
    assert "password" not in answer.text
    assert int(answer.headers["retry-after"]) > 0


def test_a_broker_that_takes_the_connection_and_says_nothing(settings: Settings, worker: HandWorker) -> None:
    def mute(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    with raw_receiver(mute) as port:
        readiness = Readiness(
            settings.model_copy(update={"broker_url": f"redis://127.0.0.1:{port}/0"}), worker.ledger, worker.artifacts
        )
        assert asyncio.run(readiness.failing(0.2))["broker"] == "silent for 0.2 s"
        # Given longer than its own limit, the broker's client gives up by itself.
        assert asyncio.run(readiness.failing(60))["broker"] == "no answer"


def test_a_part_that_is_back_is_well_again(settings: Settings, worker: HandWorker, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    readiness = Readiness(settings.model_copy(update={"bundle": tmp_path / "b"}), worker.ledger, worker.artifacts)
    assert set(asyncio.run(readiness.failing())) >= {"bundle"}
    (tmp_path / "b" / "config.json").write_text(json.dumps({"name": "tiny"}))
    (tmp_path / "b" / "SHA256SUMS").write_text("")
    assert "bundle" not in asyncio.run(readiness.failing())


def test_without_the_broker_it_goes_on_serving_and_says_so(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    degraded = client.get("/health/ready")
    assert (degraded.status_code, degraded.json()["status"], degraded.json()["failing"]) == (200, "degraded", ["broker"])
    assert degraded.json()["detail"] == "Not answering: broker (no answer)."
    monkeypatch.setattr("spinepaint.app.health.broker_answers", lambda _url: True)
    assert client.get("/health/ready").json() == {"status": "ready"}

    def away(_artifacts: object) -> None:
        raise GenericError("no route to the bucket")

    monkeypatch.setattr("spinepaint.store.artifacts.ArtifactStore.ping", away)
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as again:
        answer = again.get("/health/ready")
    assert (answer.status_code, answer.json()["failing"]) == (503, ["artifacts"])


def test_a_gateway_starts_and_accepts_jobs_while_a_broker_of_others_is_away(tmp_path: Path, upload: Files) -> None:
    with serving(tmp_path, "redis://127.0.0.1:1/0") as gateway:
        assert gateway.client.get("/health/ready").json()["failing"] == ["broker"]
        series_id = gateway.client.post("/v1/series", files=upload).raise_for_status().json()["id"]
        assert gateway.client.post("/v1/jobs", json={"series_id": series_id, **EDIT}).json()["state"] == "queued"


def test_a_call_is_made_again_once_it_has_ended() -> None:
    numbers = iter(range(3))
    call = Bounded(lambda: next(numbers))
    assert [call.result(60) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(TimeoutError):
        Bounded(lambda: time.sleep(5)).result(0.01)
