"""What is judged of a load, and a small one on a real gateway."""

import asyncio
import time
from pathlib import Path

import psutil
import pytest

from bench.load import MIB, Clients, Seen, judge
from bench.servers import Servers
from bench.upload_client import Answer, Template
from tests.imaging.series_factory import make_series

MINUTES = 20.0


def seen(accept_s: list[float], mib_per_minute: float = 0.0) -> Seen:
    return Seen(accept_s=accept_s, resident=[(minute / 10, 100 + mib_per_minute * minute / 10) for minute in range(200)])


def test_quick_and_flat_is_well() -> None:
    judged = judge(seen([0.2] * 19 + [5.0]), MINUTES, 1.0)
    assert judged.faults == []
    assert judged.figures["accept_p95_s"] == 0.2
    assert judged.figures["accept_p99_s"] == 5.0


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (seen([0.2] * 18 + [1.0, 5.0]), "the 95th percentile of the time to accept is 1.00 s, not under 1 s"),
        (seen([]), "nothing was accepted"),
        (seen([0.2], mib_per_minute=1.0), "the gateway's memory grew by 13% over 14.9 minutes"),
        (Seen(accept_s=[0.2], errors=2), "2 answers were errors other than 429"),
    ],
)
def test_what_does_not_hold_is_said(found: Seen, fault: str) -> None:
    assert judge(found, MINUTES, 1.0).faults == [fault]


def test_memory_may_be_taken_at_the_beginning() -> None:
    found = seen([0.2])
    found.resident[:40] = [(at, mib / 2) for at, mib in found.resident[:40]]
    assert judge(found, MINUTES, 1.0).faults == []


def test_errors_are_those_that_were_not_wanted() -> None:
    found = Seen()
    for status in (202, 429, 500, 0):
        found.note("upload", Answer(status, {}, b'{"type": "x/y"}', 0.0, 0.0), (202, 429))
    assert found.errors == 2
    assert found.answers == {"upload 202": 1, "upload 429 y": 1, "upload 500 y": 1, "upload 0": 1}


def test_clients_upload_wait_when_told_and_leave_nothing(tmp_path: Path) -> None:
    paths = make_series(tmp_path / "source", slices=18, rows=64, columns=64, spacing_mm=(4.4, 2.0, 2.0))
    template = Template.of(paths)
    found = Seen()
    with Servers(tmp_path) as servers:
        servers.valkey()
        gateway, url = servers.gateway(SPINEPAINT_MAX_UPLOADS="1")
        clients = Clients(url, template, found, time.monotonic() + 5)
        asyncio.run(clients.run(4, psutil.Process(gateway.pid)))
    assert found.errors == 0, found.answers
    assert found.answers["upload 202"] == found.answers["delete 204"] == len(found.accept_s) > 0
    assert found.answers["upload 429 too-many-uploads"] == len(found.retry_after_s) > 0
    assert min(found.retry_after_s) >= 1
    assert all(mib * MIB > 2**20 for _, mib in found.resident)


def test_every_upload_is_another_series(tmp_path: Path) -> None:
    template = Template.of(make_series(tmp_path, slices=3, rows=32, columns=32))
    bodies = [b"".join(bytes(piece) for piece in template.pieces(number, {})) for number in (10_000_001, 10_000_002)]
    assert len(bodies[0]) == len(bodies[1])
    assert bodies[0].count(b"10000001") == bodies[1].count(b"10000002") > 3 * 4
    assert bodies[0].replace(b"10000001", b"10000002") == bodies[1]
