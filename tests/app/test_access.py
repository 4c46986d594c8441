"""Keys over HTTP: who is let in, for what, how often and until when."""

import asyncio
import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.datastructures import State

from spinepaint.app import access
from spinepaint.app.access import Access, KeyEnded
from spinepaint.app.credentials import OPEN
from spinepaint.app.gateway import create_app
from spinepaint.settings import Settings
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.database import utc_now
from spinepaint.store.keys import Scope
from spinepaint.store.ledger import Ledger
from tests.app.access_tools import Site, opened
from tests.app.conftest import EDIT, Files, HandWorker, problem_type

ABSENT = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    with opened(settings) as site:
        yield site


def test_loopback_is_open_until_a_key_is_made_and_closed_for_good_from_then_on(site: Site) -> None:
    assert site.nobody.get("/v1/jobs").status_code == 200
    key_id, key = site.key()
    assert problem_type(site.nobody.get("/v1/jobs")) == "no-key"
    assert site.client(key).get("/v1/jobs").status_code == 200
    site.ledger.revoke_key(key_id)
    assert site.nobody.get("/v1/jobs").status_code == 401


def test_a_service_that_others_can_reach_is_never_open(settings: Settings) -> None:
    with opened(settings.model_copy(update={"host": "0.0.0.0"})) as site:
        assert problem_type(site.nobody.get("/v1/jobs")) == "no-key"
        assert site.nobody.get("/health/live").status_code == 200


def test_what_is_no_key_in_force_gets_401_and_a_challenge(site: Site) -> None:
    key_id, key = site.key()
    _, expired = site.key(expires_at=utc_now() - timedelta(seconds=1))
    revoked_id, revoked = site.key()
    site.ledger.revoke_key(revoked_id)
    for header, slug in {
        f"Bearer {key}x": "unknown-key",
        f"Bearer sp_{key_id}_": "unknown-key",
        f"Basic {key}": "unknown-key",
        "Bearer": "unknown-key",
        key: "unknown-key",
        f"Bearer {expired}": "expired-key",
        f"Bearer {revoked}": "revoked-key",
    }.items():
        answer = site.nobody.get("/v1/jobs", headers={"Authorization": header})
        assert (answer.status_code, problem_type(answer)) == (401, slug)
        assert answer.headers["www-authenticate"].startswith('Bearer realm="spinepaint", error="invalid_token"')
        assert key not in answer.text
    assert site.nobody.get("/v1/jobs").headers["www-authenticate"] == 'Bearer realm="spinepaint"'
    twice = [("Authorization", f"Bearer {key}"), ("Authorization", f"Bearer {revoked}")]
    assert site.nobody.get("/v1/jobs", headers=twice).status_code == 401  # type: ignore[arg-type]
    assert site.nobody.get("/v1/jobs", headers={"authorization": f"bearer  {key}"}).status_code == 200


def test_the_log_names_the_key_by_its_id_alone(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    key_id, key = site.key()
    with caplog.at_level(logging.DEBUG):
        site.client(key).head("/v1/jobs")
        site.client(key + "x").get("/v1/jobs")
    known = [record for record in caplog.records if getattr(record, "key_id", None)]
    assert [(record.key_id, record.status) for record in known] == [(key_id, 200)]  # type: ignore[attr-defined]
    assert key.split("_", 2)[2] not in caplog.text


def test_scopes(site: Site) -> None:
    reader, writer = site.client(site.key(scopes=[Scope.READ])[1]), site.client(site.key(scopes=[Scope.WRITE])[1])
    assert reader.get("/v1/jobs").status_code == reader.head("/v1/jobs").status_code == 200
    assert writer.delete(f"/v1/jobs/{ABSENT}").status_code == 404
    for client, method, path, scope in (
        (reader, "POST", "/v1/jobs", "write"),
        (reader, "DELETE", f"/v1/jobs/{ABSENT}", "write"),
        (reader, "POST", "/v1/series:check", "write"),
        (reader, "POST", "/dicom-web/studies", "write"),
        (writer, "GET", "/v1/jobs", "read"),
        (writer, "GET", "/dicom-web/studies", "read"),
        (reader, "GET", "/v1/audit", "admin"),
        (reader, "GET", "/metrics", "metrics"),
        (reader, "PUT", "/nowhere", "write"),
    ):
        answer = client.request(method, path)
        assert (answer.status_code, problem_type(answer), answer.json()["scope"]) == (403, "missing-scope", scope), path
        challenge = f'Bearer realm="spinepaint", error="insufficient_scope", scope="{scope}"'
        assert answer.headers["www-authenticate"] == challenge
    for client in (reader, writer):
        assert (client.get("/v1/capabilities").status_code, client.options("/v1/jobs").status_code) == (200, 204)
    operator = site.client(site.key(scopes=[Scope.METRICS])[1])
    assert operator.get("/metrics").status_code == 200
    assert operator.get("/v1/jobs").status_code == 403


def test_a_key_that_may_only_send_is_given_no_result_however_long_it_would_wait(
    site: Site, upload: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = HandWorker(site.ledger, ArtifactStore(site.settings.artifacts_url))
    submit_job = Ledger.submit_job

    def submitted_and_done(self: Ledger, *arguments: Any, **options: Any) -> Any:
        job = submit_job(self, *arguments, **options)
        worker.deliver(job.id)
        return job

    monkeypatch.setattr(Ledger, "submit_job", submitted_and_done)
    answers = {}
    for scopes in ((Scope.WRITE,), (Scope.READ, Scope.WRITE)):
        client = site.client(site.key(scopes=scopes)[1])
        asked = {"files": upload, "data": {"spec": json.dumps(EDIT)}, "headers": {"Prefer": "wait=20"}}
        answers[len(scopes)] = client.post("/v1/inpaint", **asked)
    assert (answers[1].status_code, "preference-applied" in answers[1].headers) == (202, False)
    assert answers[1].headers["location"] == f"/v1/jobs/{answers[1].json()['id']}"
    assert (answers[2].status_code, answers[2].headers["content-type"]) == (200, "application/zip")


def test_probes_need_no_key_and_everything_else_does(site: Site) -> None:
    site.key()
    for path in OPEN:
        assert site.nobody.get(path).status_code in (200, 503)
    for path in (
        "/metrics",
        "/openapi.json",
        "/docs",
        "/nowhere",
        "/",
        "/v1",
        "/health",
        "/health/live/",
        "//health/live",
        "/v1/audit",
    ):
        assert site.nobody.get(path).status_code == 401, path
    for path in ("/health/live/../../v1/jobs", "/health/live%2f..%2f..%2fv1/jobs", "/health/live;/v1/jobs", "/v1//jobs"):
        assert site.nobody.get(path).status_code == 401, path


def test_the_openapi_document_says_which_operations_need_what(site: Site) -> None:
    document = site.client(site.key()[1]).get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["security"] == ([] if path in OPEN else operation["security"]), path
            assert path in OPEN or list(operation["security"][0]) == ["key"], path
    assert document["paths"]["/v1/jobs"]["post"]["security"] == [{"key": ["write"]}]


def test_a_revoked_key_ends_at_once_at_every_gateway(site: Site) -> None:
    key_id, key = site.key()
    clients = [site.client(key), site.client(key, site.another_gateway())]
    assert [client.get("/v1/jobs").status_code for client in clients] == [200, 200]
    assert clients[0].post("/v1/jobs", json={}).status_code == 422
    site.ledger.revoke_key(key_id)
    assert [client.get("/v1/jobs").status_code for client in clients] == [401, 401]


def test_use_is_told_without_a_write_a_request(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from spinepaint.store.tenancy import CallerLedger

    key_id, key = site.key()
    client = site.client(key)
    assert client.get("/v1/jobs").status_code == 200
    first = site.ledger.get_key(key_id)
    assert first is not None and first.last_used_at is not None

    def no_writes(*_arguments: object) -> None:
        raise AssertionError("a write")

    monkeypatch.setattr("spinepaint.store.database.Database.write", no_writes)
    monkeypatch.setattr(CallerLedger, "write", no_writes)
    assert [client.get("/v1/jobs").status_code for _ in range(3)] == [200] * 3


class Lasting:
    """An answer in three pieces, between which something happens."""

    def __init__(self, happens: Any, after: int) -> None:
        self._happens, self._after = happens, after

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": []}
        for number, message in enumerate([start, *[{"type": "http.response.body", "body": b"x", "more_body": True}] * 2]):
            if number == self._after:
                self._happens()
            await send(message)


@pytest.mark.parametrize(("after", "sent"), [(0, [401, b"problem"]), (1, [200]), (2, [200, b"x"])])
def test_an_answer_that_lasts_ends_with_its_key(site: Site, monkeypatch: pytest.MonkeyPatch, after: int, sent: list[Any]) -> None:
    monkeypatch.setattr(access, "RECHECK_S", 0.0)
    key_id, key = site.key()
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message.get("status") or (b"x" if message["body"] == b"x" else b"problem"))

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    kept = {name: getattr(site.app.state, name) for name in ("settings", "rates", "denials")}
    app = SimpleNamespace(state=State({"ledger": site.ledger, **kept}))
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/jobs",
        "headers": [(b"authorization", f"Bearer {key}".encode())],
        "app": app,
    }
    answering = Access(Lasting(lambda: site.ledger.revoke_key(key_id), after), loopback=True)(scope, receive, send)
    if after == 0:
        asyncio.run(answering)
    else:
        with pytest.raises(KeyEnded):
            asyncio.run(answering)
    assert told == sent


def test_a_key_has_its_own_rate_which_gateways_share(settings: Settings, valkey_url: str) -> None:
    with opened(settings.model_copy(update={"broker_url": valkey_url})) as site:
        slow = site.key(rate_per_s=0.001, burst=3)[1]
        other = site.client(site.key()[1])
        gateways = [site.client(slow), site.client(slow, site.another_gateway())]
        statuses = [gateways[number % 2].get("/v1/jobs").status_code for number in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        refused = gateways[0].get("/v1/jobs")
        assert problem_type(refused) == "rate-limited"
        assert 900 < int(refused.headers["retry-after"]) <= 1000
        assert other.get("/v1/jobs").status_code == 200


def test_rates_hold_at_each_gateway_while_the_broker_is_away(settings: Settings) -> None:
    with opened(
        settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0", "key_rate_per_s": 0.001, "key_burst": 2})
    ) as site:
        client = site.client(site.key()[1])
        assert [client.get("/v1/jobs").status_code for _ in range(3)] == [200, 200, 429]
        assert site.client(site.key(burst=1)[1]).get("/v1/jobs").status_code == 200


def test_a_database_that_does_not_answer_lets_nobody_in(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    _, key = site.key()

    def fail(*_arguments: object) -> None:
        raise OperationalError("select", {}, Exception("down"))

    monkeypatch.setattr("spinepaint.store.ledger.Ledger.find_key", fail)
    answer = site.client(key).get("/v1/jobs")
    assert (answer.status_code, problem_type(answer)) == (503, "database-unavailable")
    assert answer.headers["retry-after"]


def test_names_that_the_gateway_answers_to(settings: Settings, tmp_path: Path) -> None:
    from spinepaint.app.serve import _hosts

    assert _hosts(settings) == {"127.0.0.1", "localhost", "::1"}
    public = settings.model_copy(update={"host": "0.0.0.0"})
    assert _hosts(public) is None
    named = public.model_copy(update={"hosts": ("spinepaint.example.org",)})
    assert _hosts(named) == {"0.0.0.0", "127.0.0.1", "localhost", "::1", "spinepaint.example.org"}
    from fastapi.testclient import TestClient

    with opened(settings) as site, TestClient(create_app(public, hosts=None)) as client:
        headers = {"Authorization": f"Bearer {site.key()[1]}", "Host": "anything.example"}
        assert client.get("/v1/jobs", headers=headers).status_code == 200
