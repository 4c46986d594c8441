"""Events as they are followed: by many, from one gateway to another, through silence and through a database that is away."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from spinepaint.app import feed as feeds
from spinepaint.app.feed import Feed
from spinepaint.app.gateway import create_app
from spinepaint.app.routes import events as routes
from spinepaint.app.routes.events import _stream
from spinepaint.settings import Settings
from spinepaint.store import Job, Ledger
from tests.app.conftest import HandWorker
from tests.app.test_results import frames
from tests.worker.workplaces import add_source, open_stores

PATIENCE_S = 120.0


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Ledger, Job]]:
    ledger, artifacts = open_stores(tmp_path)
    yield ledger, ledger.submit_job(add_source(ledger, artifacts).id, {})
    ledger.close()


@contextmanager
def calls(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[list[str]]:
    """The ledger's methods of those names, as they are called."""
    made: list[str] = []
    for name in names:
        real = getattr(Ledger, name)
        monkeypatch.setattr(Ledger, name, lambda *args, _n=name, _r=real, **more: (made.append(_n), _r(*args, **more))[1])
    yield made


def ids(text: str) -> list[int]:
    return [int(frame["id"]) for frame in frames(text)]


async def collect(stream: AsyncIterator[str], until: int | None = None) -> str:
    text = ""
    async for piece in stream:
        text += piece
        if until is not None and f"id: {until}\n" in text:
            break
    return text


def work(ledger: Ledger, job: Job, steps: int = 3) -> None:
    claim = ledger.claim(job.id, "by hand")
    assert claim is not None
    for step in range(steps):
        ledger.progress(job.id, claim.token, f"stage {step}", step / steps)
    ledger.succeed(job.id, claim.token, {}, "results/")


def test_many_listeners_cost_one_look(place: tuple[Ledger, Job], monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, job = place

    async def follow() -> list[str]:
        feed = Feed(ledger, threading.Event())
        listening = [asyncio.create_task(collect(_stream(ledger, feed, job, 0))) for _ in range(200)]
        while looks.count("events") < 200:  # each has had its replay
            await asyncio.sleep(0.01)
        looks.clear()
        began = time.monotonic()
        while looks.count("last_events") < 3:
            await asyncio.sleep(0.01)
        # However slow the machine, the looks of one task are never closer together than its pause.
        assert looks.count("last_events") <= (time.monotonic() - began) / feeds.POLL_S + 1
        assert looks.count("events_since") == looks.count("events") == 0
        await asyncio.to_thread(work, ledger, job)
        texts = await asyncio.gather(*listening)
        assert looks.count("events_since") <= 5
        assert feed._jobs == {}
        return list(texts)

    with calls(monkeypatch, "last_events", "events_since", "events") as looks:
        texts = asyncio.run(asyncio.wait_for(follow(), PATIENCE_S))
    assert set(map(str, (ids(text) for text in texts))) == {"[1, 2, 3, 4, 5, 6]"}


def test_replay_and_what_comes_meet_without_gap_or_double(place: tuple[Ledger, Job]) -> None:
    ledger, job = place

    async def follow() -> list[str]:
        feed = Feed(ledger, threading.Event())
        listening = []
        working = asyncio.create_task(asyncio.to_thread(work, ledger, job, 60))
        for number in range(40):
            seen = ledger.get_job(job.id)
            assert seen is not None
            listening.append(asyncio.create_task(collect(_stream(ledger, feed, seen, min(number, seen.last_event)))))
            await asyncio.sleep(0.005)
        await working
        return list(await asyncio.gather(*listening))

    for text in asyncio.run(asyncio.wait_for(follow(), PATIENCE_S)):
        found = ids(text)
        assert found == list(range(found[0], 64)) if found else True
        assert text.endswith('"state":"succeeded"}\n\n')


def test_another_gateway_goes_on_where_the_first_was_left(place: tuple[Ledger, Job], tmp_path: Path) -> None:
    ledger, job = place
    claim = ledger.claim(job.id, "by hand")
    assert claim is not None
    ledger.progress(job.id, claim.token, "sample", 0.1)
    heard: list[int] = []

    async def on_one_gateway() -> int:
        first = Ledger(Settings(data_dir=tmp_path).database_url)
        seen = first.get_job(job.id)
        assert seen is not None
        text = await collect(_stream(first, Feed(first, threading.Event()), seen, 0), until=3)
        first.close()
        heard.extend(ids(text))
        return heard[-1]

    last = asyncio.run(asyncio.wait_for(on_one_gateway(), PATIENCE_S))
    ledger.progress(job.id, claim.token, "sample", 0.9)
    ledger.succeed(job.id, claim.token, {}, "results/")
    with TestClient(create_app(Settings(data_dir=tmp_path)), base_url="http://127.0.0.1") as gateway:
        path = f"/v1/jobs/{job.id}/events"
        heard += ids(gateway.get(path, headers={"Last-Event-ID": str(last)}).text)
        assert gateway.get(path, headers={"Last-Event-ID": str(heard[-1])}).status_code == 204
        assert gateway.get(path, headers={"Last-Event-ID": "1000"}).status_code == 204
    assert heard == [1, 2, 3, 4, 5]


def test_silence_is_broken_by_comments(place: tuple[Ledger, Job], monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, job = place
    monkeypatch.setattr(routes, "KEEP_ALIVE_S", 0.05)

    async def follow() -> list[str]:
        stream = _stream(ledger, Feed(ledger, threading.Event()), job, 1)
        return [await anext(stream) for _ in range(3)]

    assert asyncio.run(asyncio.wait_for(follow(), PATIENCE_S)) == [": still here\n\n"] * 3


def test_a_number_of_another_ledger_hides_nothing_that_comes(place: tuple[Ledger, Job]) -> None:
    ledger, job = place

    async def follow() -> str:
        listening = asyncio.create_task(collect(_stream(ledger, Feed(ledger, threading.Event()), job, 999)))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(work, ledger, job)
        return await listening

    assert ids(asyncio.run(asyncio.wait_for(follow(), PATIENCE_S))) == [2, 3, 4, 5, 6]


def test_a_ledger_that_is_away_for_a_moment_ends_no_stream(place: tuple[Ledger, Job], monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, job = place
    monkeypatch.setattr(feeds, "_PAUSE_S", 0.05)
    failures = iter([True] * 3)
    real = ledger.last_events

    def flaky(job_ids: Any) -> dict[str, int]:
        if next(failures, False):
            raise OperationalError("select", {}, Exception("down"))
        return real(job_ids)

    monkeypatch.setattr(ledger, "last_events", flaky)

    async def follow() -> str:
        listening = asyncio.create_task(collect(_stream(ledger, Feed(ledger, threading.Event()), job, 0)))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(work, ledger, job)
        return await listening

    assert ids(asyncio.run(asyncio.wait_for(follow(), PATIENCE_S))) == [1, 2, 3, 4, 5, 6]
    assert next(failures, None) is None


def test_a_client_that_takes_nothing_is_let_go(place: tuple[Ledger, Job], monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, job = place
    monkeypatch.setattr(feeds, "MOST_BEHIND", 3)

    async def follow() -> list[int]:
        feed = Feed(ledger, threading.Event())
        with feed.listen(job.id, 1) as listener:
            await asyncio.to_thread(work, ledger, job, 10)
            while feed._jobs[job.id].after < 13:
                await asyncio.sleep(0.01)
            heard = []
            while (event := await listener.next(PATIENCE_S)) is not None:
                heard.append(event.seq)
        return heard

    assert asyncio.run(asyncio.wait_for(follow(), PATIENCE_S)) == [2, 3, 4]


def test_a_job_that_was_queued_again_is_told_to_its_new_end(client: TestClient, job_id: str, worker: HandWorker) -> None:
    worker.fail(job_id)
    token = _queue_again(worker.ledger, job_id)
    worker.ledger.succeed(job_id, token, {}, "results/")
    found = frames(client.get(f"/v1/jobs/{job_id}/events").text)
    states = [json.loads(frame["data"])["state"] for frame in found]
    assert states == ["queued", "running", "failed", "queued", "running", "succeeded"]


def _queue_again(ledger: Ledger, job_id: str) -> str:
    """As a batch does with what has failed."""
    from spinepaint.store import JobState
    from spinepaint.store.transitions import change, record

    with ledger.write() as session:
        job = change(session, job_id, Job.state == "failed", state=JobState.QUEUED, finished_at=None, problem=None)
        assert job is not None
        record(session, job, "state", {"state": "queued"})
    claim = ledger.claim(job_id, "by hand")
    assert claim is not None
    return claim.token


def test_a_deleted_job_ends_its_streams(place: tuple[Ledger, Job]) -> None:
    ledger, job = place

    async def follow() -> bool:
        feed = Feed(ledger, threading.Event())
        with feed.listen(job.id, 99) as listener:  # beyond its end, as if that had not been read yet
            await asyncio.to_thread(ledger.cancel, job.id)
            await asyncio.to_thread(ledger.delete_job, job.id)
            return await listener.next(PATIENCE_S) is None

    assert asyncio.run(asyncio.wait_for(follow(), PATIENCE_S))


def test_a_job_that_there_is_not(client: TestClient) -> None:
    answer: httpx.Response = client.get("/v1/jobs/00000000-0000-4000-8000-000000000000/events", headers={"Last-Event-ID": "3"})
    assert answer.status_code == 404
