"""What batches may take of a gateway's memory: their bodies together, and what is made of each."""

import tracemalloc
from typing import Any

import pytest
from fastapi.testclient import TestClient

from spinepaint.app import batch_request
from spinepaint.app.admission import Busy
from spinepaint.app.held import Held
from spinepaint.imaging.errors import Refusal
from spinepaint.settings import Settings
from tests.app.conftest import EDIT, problem_type

MIB = 2**20
LINES = {"Content-Type": "application/jsonl"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_queued_jobs": 5000, "max_batch_jobs": 5000})


def test_what_is_held_is_counted_as_it_comes_and_given_back() -> None:
    held = Held(20)
    with held.body("a") as first:
        first.grow(6)
        with held.body("b") as second, held.body("c") as third:
            second.grow(10)
            third.grow(3)
            with pytest.raises(Busy) as raised:
                third.grow(2)
        assert (raised.value.status, raised.value.retry_after_s) == (429, 2)
        first.grow(4)
    with held.body("a") as fourth:
        fourth.grow(10)


def test_no_tenant_holds_what_is_the_others() -> None:
    held = Held(20)
    with held.body("a") as first, held.body("a") as second, held.body("b") as third:
        first.grow(6)
        with pytest.raises(Busy):
            second.grow(5)
        second.grow(4)
        third.grow(10)


def test_a_batch_too_many_is_told_to_come_again(client: TestClient) -> None:
    held = client.app.state.batches_held = Held(20_000)  # type: ignore[attr-defined]

    def ask() -> Any:
        return client.post("/v1/batches", content=b" " * 9_000, headers=LINES)

    with held.body("others") as first, held.body("more") as second:
        first.grow(10_000)
        second.grow(5_000)
        busy = ask()
        assert (busy.status_code, problem_type(busy)) == (429, "too-many-bodies")
        assert int(busy.headers["retry-after"]) > 0
    for _ in range(5):  # however a request ends, what it took is given back
        assert problem_type(ask()) == "invalid-request"


@pytest.mark.parametrize(
    "body",
    [
        b'{"series_ids": [' + b"{}," * 350_000 + b'{}], "specs": [{}]}',
        b'{"series_ids": ["x"], "specs": [' + b"[[[]]]," * 150_000 + b"[]]}",
        b'{"series_ids": ["x"], "specs": [{' + b'"":[],' * 175_000 + b'"":[]}]}',
    ],
    ids=["dictionaries", "nested lists", "members of one spec"],
)
def test_very_many_values_are_refused_before_any_is_made(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr(batch_request, "from_json", None)
    for headers in ({"Content-Type": "application/json"}, LINES):
        answer = client.post("/v1/batches", content=body, headers=headers)
        assert (answer.status_code, problem_type(answer)) == (413, "over-cap-max-batch-jobs")
        assert "max_batch_jobs is 5000 here" in answer.json()["detail"]


def test_very_many_lines_are_counted_without_being_kept(settings: Settings) -> None:
    body = b"1\n" * (MIB // 2)
    tracemalloc.start()
    with pytest.raises(Refusal) as raised:
        batch_request._from_lines(body, settings)
    _now, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (raised.value.status, raised.value.type) == (413, "over-cap-max-batch-jobs")
    assert f"this has {MIB // 2}" in raised.value.detail
    assert peak_bytes < 2 * MIB


def test_as_many_items_as_may_be_have_room_for_all_that_a_spec_can_say(client: TestClient, settings: Settings) -> None:
    said = EDIT | {
        "seed": 1, "samples": 2, "method": "weighted", "solver": "pndm", "steps": 10, "landmark_lps_mm": [1.5, 2.5, 3.5],
        "sigma_mm": 16.0, "deidentify": True, "new_study": True, "allow_synthetic": True, "attempts": 1,
        "require_verified": True, "destination": "archive", "callback_url": "https://example.org/?a,b,c,[d],{e}",
        "priority": "low",
    }  # fmt: skip
    assert set(said) == set(batch_request.EditSpec.model_fields)
    roomy = settings.model_copy(update={"max_batch_bytes": 8 * MIB})
    client.app.state.settings = roomy  # type: ignore[attr-defined]
    answer = client.post("/v1/batches", json={"series_ids": ["x"], "specs": [said] * 5000})
    assert (answer.status_code, [item["at"] for item in answer.json()["items"]]) == (422, ["series_ids/0"])
