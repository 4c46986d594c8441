"""Submitting, listing, following, cancelling and retrying batches."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event

from spinepaint.app.gateway import create_app
from spinepaint.settings import Settings
from spinepaint.store.database import migrate, utc_now
from spinepaint.store.models import JobState
from tests.app.conftest import EDIT, Files, HandWorker, problem_type
from tests.store.discards import due_discards

STENOSIS: dict[str, Any] = {"pathology": "central_canal_stenosis", "fsu": "L3-L4", "severity": "severe"}
JSON_LINES = {"Content-Type": "application/jsonl"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_queued_jobs": 60, "max_batch_jobs": 20, "max_batch_bytes": 20_000})


@pytest.fixture
def series_ids(client: TestClient, upload: Files) -> list[str]:
    return [str(client.post("/v1/series", files=upload).json()["id"]) for _ in range(2)]


def submit(client: TestClient, series_ids: list[str], specs: list[dict[str, Any]], **headers: str) -> Any:
    return client.post("/v1/batches", json={"series_ids": series_ids, "specs": specs}, headers=headers)


def send_lines(client: TestClient, lines: list[Any], **headers: str) -> Any:
    body = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return client.post("/v1/batches", content=body, headers=JSON_LINES | headers)


def items_of(client: TestClient, answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 202
    return list(client.get(answer.json()["links"]["self"]).json()["items"])


def nothing_kept(client: TestClient) -> bool:
    return client.get("/v1/jobs").json()["jobs"] == client.get("/v1/batches").json()["batches"] == []


def test_every_series_with_every_spec(client: TestClient, series_ids: list[str]) -> None:
    answer = submit(client, series_ids, [EDIT | {"seed": 5, "samples": 3}, STENOSIS])
    assert answer.status_code == 202
    view = answer.json()
    assert answer.headers["location"] == view["links"]["self"] == f"/v1/batches/{view['id']}"
    assert int(answer.headers["retry-after"]) > 0
    assert (view["state"], view["total"]) == ("queued", 4)
    assert view["counts"] == {state.value: 4 * (state == "queued") for state in JobState}
    found = client.get(view["links"]["self"])
    assert int(found.headers["retry-after"]) > 0
    assert {name: found.json()[name] for name in view} == view
    items = found.json()["items"]
    assert [item["index"] for item in items] == [0, 1, 2, 3]
    assert [item["series_id"] for item in items] == [series_ids[0]] * 2 + [series_ids[1]] * 2
    assert [item["spec"]["pathology"] for item in items] == ["disc_herniation", "central_canal_stenosis"] * 2
    assert (items[0]["spec"]["seed"], items[0]["spec"]["samples"], items[1]["spec"]["samples"]) == (5, 3, 1)
    assert all("series_uid" not in item["spec"] for item in items)
    for item in items:
        job = client.get(item["links"]["self"]).json()
        assert (job["id"], job["state"]) == (item["job_id"], "queued")


def test_an_item_is_the_job_that_would_have_been_submitted_alone(
    client: TestClient, series_ids: list[str], worker: HandWorker
) -> None:
    alone = client.post("/v1/jobs", json={"series_id": series_ids[0], **EDIT, "seed": 9}).json()["id"]
    together = items_of(client, submit(client, series_ids[:1], [EDIT | {"seed": 9}]))[0]["job_id"]
    jobs = [worker.ledger.get_job(job_id) for job_id in (alone, together)]
    assert jobs[0] is not None and jobs[1] is not None
    assert (jobs[0].spec, jobs[0].max_attempts) == (jobs[1].spec, jobs[1].max_attempts)


@pytest.mark.parametrize("kind", ["application/jsonl", "application/x-ndjson", "application/x-jsonlines; charset=utf-8"])
def test_json_lines(client: TestClient, series_ids: list[str], kind: str) -> None:
    lines = [{"series_id": series_ids[0], "spec": EDIT}, "", {"series_id": series_ids[1], "spec": STENOSIS}, ""]
    items = items_of(client, send_lines(client, lines, **{"Content-Type": kind}))
    assert [(item["series_id"], item["spec"]["fsu"]) for item in items] == [(series_ids[0], "L4-L5"), (series_ids[1], "L3-L4")]


def test_seeds_that_are_not_given_follow_from_the_content(client: TestClient, series_ids: list[str]) -> None:
    def seeds(specs: list[dict[str, Any]], ids: list[str]) -> list[int]:
        return [item["spec"]["seed"] for item in items_of(client, submit(client, ids, specs))]

    first = seeds([EDIT, STENOSIS, EDIT], series_ids[:1])
    assert len(set(first)) == 3
    # The same content under another id, in another batch: the same seeds for the same edits.
    assert seeds([STENOSIS, EDIT, EDIT | {"samples": 2}], series_ids[1:]) == [first[1], first[0], first[2]]
    assert seeds([EDIT | {"seed": 0}, EDIT], series_ids[:1]) == [0, first[0]]


def test_idempotency(client: TestClient, series_ids: list[str]) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = submit(client, series_ids, [EDIT], **key)
    again = send_lines(client, [{"series_id": each, "spec": EDIT} for each in series_ids], **key)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    other = submit(client, series_ids, [STENOSIS], **key)
    assert (other.status_code, problem_type(other)) == (422, "idempotency-conflict")
    assert len(client.get("/v1/batches").json()["batches"]) == 1
    assert submit(client, series_ids, [EDIT], **{"Idempotency-Key": "k-2"}).json()["id"] != first.json()["id"]
    assert submit(client, series_ids, [EDIT], **{"Idempotency-Key": "k" * 256}).status_code == 422


def test_each_item_in_the_way_is_named_and_nothing_is_kept(client: TestClient, series_ids: list[str]) -> None:
    absent = str(uuid.uuid4())
    lines = [
        {"series_id": series_ids[0], "spec": EDIT},
        {"series_id": absent, "spec": EDIT},
        {"series_id": series_ids[0], "spec": EDIT | {"destination": "nowhere"}},
    ]
    answer = send_lines(client, lines)
    assert (answer.status_code, problem_type(answer)) == (422, "refused-items")
    found = [(item["index"], item["at"], item["type"]) for item in answer.json()["items"]]
    assert found == [(1, "series_id", "unknown-series"), (2, "spec", "unknown-destination")]
    assert all(item["reason"] for item in answer.json()["items"])
    assert nothing_kept(client)


def test_lines_that_do_not_fit_the_schema(client: TestClient, series_ids: list[str]) -> None:
    good = {"series_id": series_ids[0], "spec": EDIT}
    lines = [
        good,
        "",
        good | {"series_id": "1"},
        good | {"spec": EDIT | {"fsu": "Doe^Jane"}},
        good | {"spec": EDIT | {"severity": "severe"}},
        good | {"patholgy": "x"},
        [],
        {"series_id": series_ids[0], **EDIT},
    ]
    answer = send_lines(client, lines)
    assert (answer.status_code, problem_type(answer)) == (422, "refused-items")
    at = [(item["index"], item["at"]) for item in answer.json()["items"]]
    assert at[:5] == [
        (1, "line 3/series_id"),
        (2, "line 4/spec/fsu"),
        (3, "line 5/spec"),
        (4, "line 6/patholgy"),
        (5, "line 7"),
    ]
    assert {index for index, _ in at} == {1, 2, 3, 4, 5, 6}
    assert "Doe" not in answer.text
    assert nothing_kept(client)


def test_lists_that_do_not_fit_the_schema(client: TestClient, series_ids: list[str]) -> None:
    answer = submit(client, [series_ids[0], "x", series_ids[1]], [EDIT, EDIT | {"seed": -1}])
    assert (answer.status_code, problem_type(answer)) == (422, "refused-items")
    # The index is that of the first item that it concerns.
    assert [(item["index"], item["at"]) for item in answer.json()["items"]] == [(2, "series_ids/1"), (1, "specs/1/seed")]
    assert nothing_kept(client)


def test_a_malformed_line(client: TestClient, series_ids: list[str]) -> None:
    answer = send_lines(client, [{"series_id": series_ids[0], "spec": EDIT}, "{"])
    assert (answer.status_code, problem_type(answer)) == (400, "malformed-json")
    assert [(item["index"], item["at"]) for item in answer.json()["items"]] == [(1, "line 2")]
    assert nothing_kept(client)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 5000, 400),
        (b'{"series_ids": [], "specs": [NaN]}', 400),
        (b"[]", 422),
        (b"null", 422),
        (b'{"series_ids": [], "specs": []}', 422),
        (b'{"series_ids": "x", "specs": {}}', 422),
        (b'{"series_ids": ["x"]}', 422),
        (b'{"series_ids": ["x"], "specs": [{}], "more": 1}', 422),
    ],
)
def test_odd_json_is_refused_with_a_problem(client: TestClient, body: bytes, status: int) -> None:
    answer = client.post("/v1/batches", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, bool(problem_type(answer))) == (status, True)
    lines = client.post("/v1/batches", content=body, headers=JSON_LINES)
    assert lines.status_code in (400, 422) and problem_type(lines)
    assert nothing_kept(client)


def test_one_refusal_names_at_most_so_many_items(client: TestClient) -> None:
    roomy = client.app.state.settings.model_copy(update={"max_batch_jobs": 5000, "max_queued_jobs": 5000})  # type: ignore[attr-defined]
    client.app.state.settings = roomy  # type: ignore[attr-defined]
    answer = client.post("/v1/batches", content=b"{}\n" * 4000, headers=JSON_LINES)
    assert (answer.status_code, len(answer.json()["items"])) == (422, 200)


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=b", ""])
def test_another_kind_of_body(client: TestClient, kind: str) -> None:
    answer = client.post("/v1/batches", content=b"{}", headers={"Content-Type": kind} if kind else {})
    assert (answer.status_code, problem_type(answer)) == (415, "unsupported-media-type")


def test_a_compressed_body(client: TestClient) -> None:
    answer = client.post("/v1/batches", content=b"x", headers=JSON_LINES | {"Content-Encoding": "gzip"})
    assert (answer.status_code, problem_type(answer)) == (415, "unsupported-encoding")


def test_too_many_items(client: TestClient, series_ids: list[str]) -> None:
    over = submit(client, series_ids, [EDIT] * 11)
    assert (over.status_code, problem_type(over)) == (413, "over-cap-max-batch-jobs")
    assert "max_batch_jobs is 20 here and this has 22" in over.json()["detail"]
    lines = send_lines(client, [{}] * 21)
    assert (lines.status_code, problem_type(lines)) == (413, "over-cap-max-batch-jobs")
    assert submit(client, series_ids, [EDIT] * 10).status_code == 202
    assert client.get("/v1/capabilities").json()["limits"]["max_batch_jobs"] == 20


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 1000):
        yield b" " * 1000


def test_too_large_a_body(client: TestClient) -> None:
    for body in (b" " * 20_001, chunks(30_000)):
        answer = client.post("/v1/batches", content=body, headers=JSON_LINES)
        assert (answer.status_code, problem_type(answer)) == (413, "over-cap-max-batch-bytes")


def test_a_full_queue(client: TestClient, series_ids: list[str]) -> None:
    for _ in range(3):
        assert submit(client, series_ids, [EDIT] * 10).status_code == 202
    full = submit(client, series_ids, [EDIT])
    assert (full.status_code, problem_type(full)) == (429, "over-cap-max-queued-jobs")
    assert int(full.headers["retry-after"]) > 0
    assert len(client.get("/v1/batches").json()["batches"]) == 3


def test_thousands_of_items_take_a_few_statements(settings: Settings, upload: Files) -> None:
    roomy = settings.model_copy(update={"max_batch_jobs": 3000, "max_queued_jobs": 3000, "max_batch_bytes": 10**6})
    migrate(roomy.database_url)
    with TestClient(create_app(roomy), base_url="http://127.0.0.1:8000") as client:
        series_id = str(client.post("/v1/series", files=upload).json()["id"])
        statements: list[str] = []
        event.listen(client.app.state.ledger._engine, "before_cursor_execute", lambda *args: statements.append(args[2]))  # type: ignore[attr-defined]
        answer = send_lines(client, [{"series_id": series_id, "spec": EDIT}] * 3000)
        assert (answer.status_code, answer.json()["counts"]["queued"]) == (202, 3000)
        assert len(statements) < 100
        statements.clear()
        items = items_of(client, answer)
        assert len({item["spec"]["seed"] for item in items}) == 3000
        assert len(statements) < 100


def test_a_series_that_is_deleted_at_that_moment_is_named(
    client: TestClient, series_ids: list[str], worker: HandWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = worker.ledger.__class__
    submit_batch = book.submit_batch

    def delete_first(self: Any, *args: Any, **options: Any) -> Any:
        worker.ledger.delete_series(series_ids[1])
        return submit_batch(self, *args, **options)

    monkeypatch.setattr(book, "submit_batch", delete_first)
    answer = submit(client, series_ids, [EDIT])
    assert (answer.status_code, [item["index"] for item in answer.json()["items"]]) == (422, [1])
    assert nothing_kept(client)


def test_pages(client: TestClient, series_ids: list[str]) -> None:
    made = [submit(client, series_ids[:1], [EDIT] * count).json() for count in (1, 2, 3)]
    first = client.get("/v1/batches", params={"limit": 2}).json()
    assert first["batches"] == [made[2], made[1]]
    second = client.get("/v1/batches", params={"limit": 2, "cursor": first["next"]}).json()
    assert (second["batches"], second["next"]) == ([made[0]], None)
    assert problem_type(client.get("/v1/batches", params={"cursor": "nonsense"})) == "bad-cursor"
    assert client.get("/v1/batches", params={"limit": 0}).status_code == 422


def test_states_and_items_as_they_go(client: TestClient, series_ids: list[str], worker: HandWorker) -> None:
    answer = submit(client, series_ids[:1], [EDIT] * 4)
    here = answer.json()["links"]["self"]
    jobs = [item["job_id"] for item in items_of(client, answer)]
    worker.deliver(jobs[0])
    worker.fail(jobs[1])
    worker.start(jobs[2])
    view = client.get(here).json()
    assert view["state"] == "running"
    assert view["counts"] == {"queued": 1, "running": 1, "succeeded": 1, "failed": 1, "cancelled": 0}
    assert [item["state"] for item in view["items"]] == ["succeeded", "failed", "running", "queued"]
    assert view["items"][1]["problem"]["type"].endswith("/no-disc")
    assert client.get(view["items"][0]["links"]["result"]).status_code == 200
    failed = client.get(here, params={"state": "failed"}).json()
    assert ([item["index"] for item in failed["items"]], failed["total"]) == ([1], 4)
    assert client.get(here, params={"items": "false"}).json()["items"] is None
    assert client.get(here, params={"state": "lost"}).status_code == 422


def test_cancel_and_retry(client: TestClient, series_ids: list[str], worker: HandWorker) -> None:
    answer = submit(client, series_ids[:1], [EDIT] * 3)
    view = answer.json()
    jobs = [item["job_id"] for item in items_of(client, answer)]
    before = [item["spec"] for item in items_of(client, answer)]
    worker.deliver(jobs[0])
    worker.fail(jobs[1])
    cancelled = client.post(view["links"]["cancel"])
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "finished")
    assert cancelled.json()["counts"] == {"queued": 0, "running": 0, "succeeded": 1, "failed": 1, "cancelled": 1}
    again = client.post(view["links"]["cancel"])
    assert (again.status_code, problem_type(again)) == (409, "already-finished")
    assert "retry-after" not in client.get(view["links"]["self"]).headers
    retried = client.post(cancelled.json()["links"]["retry"])
    assert (retried.status_code, retried.headers["location"]) == (202, view["links"]["self"])
    assert int(retried.headers["retry-after"]) > 0
    assert (retried.json()["counts"]["queued"], retried.json()["counts"]["succeeded"]) == (2, 1)
    assert [item["spec"] for item in items_of(client, answer)] == before
    for job_id in jobs[1:]:
        worker.deliver(job_id)
    nothing = client.post(cancelled.json()["links"]["retry"])
    assert (nothing.status_code, problem_type(nothing)) == (409, "nothing-to-retry")
    assert client.get(view["links"]["self"]).json()["counts"]["succeeded"] == 3


def test_a_batch_is_deleted_as_a_whole_once_it_has_ended(client: TestClient, series_ids: list[str], worker: HandWorker) -> None:
    answer = submit(client, series_ids[:1], [EDIT] * 2)
    here = answer.headers["location"]
    done, waits = (item["job_id"] for item in items_of(client, answer))
    worker.deliver(done)
    active = client.delete(here)
    assert (active.status_code, problem_type(active), active.json()["jobs"]) == (409, "batch-active", [waits])
    client.post(f"{here}/cancel").raise_for_status()
    assert client.delete(here).status_code == 204
    for path in (here, f"/v1/jobs/{done}", f"/v1/jobs/{waits}", f"/v1/jobs/{done}/result"):
        assert client.get(path).status_code == 404
    assert client.get("/v1/batches").json()["batches"] == []
    assert set(due_discards(worker.ledger, utc_now())) == {f"results/{done}/", f"results/{waits}/"}
    assert client.get(f"/v1/series/{series_ids[0]}").status_code == 200


def test_unknown_and_malformed_batches(client: TestClient) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/result"), ("POST", "/cancel"), ("POST", "/retry")):
        absent = client.request(method, f"/v1/batches/{uuid.uuid4()}{path}")
        assert (absent.status_code, problem_type(absent)) == (404, "unknown-batch")
        assert client.request(method, f"/v1/batches/1{path}").status_code == 422


def test_the_openapi_document_tells_every_answer(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    paths = {path: answers for path, answers in document["paths"].items() if path.startswith("/v1/batches")}
    told = {
        (path.removeprefix("/v1/batches"), method): set(operation["responses"])
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    of_all = {"400", "401", "403", "408", "421", "422", "429", "500", "503"}
    assert {operation: statuses - of_all for operation, statuses in told.items() if statuses >= of_all} == {
        ("", "post"): {"202", "413", "415"},
        ("", "get"): {"200"},
        ("/{batch_id}", "get"): {"200", "404"},
        ("/{batch_id}", "delete"): {"204", "404", "409"},
        ("/{batch_id}/cancel", "post"): {"200", "404", "409", "413", "415"},
        ("/{batch_id}/retry", "post"): {"202", "404", "409", "413", "415"},
        ("/{batch_id}/result", "get"): {"200", "404", "406", "409"},
    }
    body = paths["/v1/batches"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "application/jsonl"}
    assert "$ref" not in json.dumps(body)
    assert body["application/jsonl"]["schema"]["properties"]["spec"]["properties"]["fsu"]["enum"][0] == "L1-L2"
    refused = paths["/v1/batches"]["post"]["responses"]["422"]["content"]["application/problem+json"]["schema"]
    assert set(refused["properties"]["items"]["items"]["properties"]) == {"index", "at", "type", "reason"}
    assert "Location" in paths["/v1/batches"]["post"]["responses"]["202"]["headers"]
    assert "application/zip" in paths["/v1/batches/{batch_id}/result"]["get"]["responses"]["200"]["content"]
