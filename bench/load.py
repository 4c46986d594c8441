"""Many clients that upload 18-slice series at once to one gateway: `python -m bench.load --minutes 20`.

Starts PostgreSQL, Valkey, an S3 store, a gateway and a worker with a stand-in. Every client uploads and submits in one call,
cancels its job, deletes its series, and begins again; answered 429, it waits as long as Retry-After says. Exits with 1 where any
other error was met, where the 95th percentile of the time to accept is `--p95-s` or more, or where the gateway's memory grows.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.ratios import percentile, slope, table
from bench.servers import Servers
from bench.upload_client import Answer, Template, ask, upload
from spinepaint.training.phantom import make_phantom, write_series

CLIENTS, SLICES, MATRIX = 200, 18, 384
SPEC = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small", "steps": 1, "allow_synthetic": True}
FIRST_NUMBER = 10_000_000
WARM_UP = 0.25
GROWTH = 0.05
MIB = 2**20


@dataclass
class Seen:
    """What the clients met. Answers are counted by what was asked, the status and, of errors, the problem's type."""

    answers: Counter[str] = field(default_factory=Counter)
    transfer_s: list[float] = field(default_factory=list)
    accept_s: list[float] = field(default_factory=list)
    refuse_s: list[float] = field(default_factory=list)
    probe_s: list[float] = field(default_factory=list)
    retry_after_s: list[float] = field(default_factory=list)
    resident: list[tuple[float, float]] = field(default_factory=list)
    """Minutes since the start, and MiB of the gateway's process."""
    readers: list[float] = field(default_factory=list)
    """MiB of its children."""
    errors: int = 0

    def note(self, what: str, answer: Answer, wanted: Sequence[int]) -> None:
        """Count an answer; an error, where its status is not one of those wanted."""
        kind = ""
        if answer.status >= 400 and answer.body.startswith(b"{"):
            kind = " " + str(answer.json().get("type", "")).rsplit("/", 1)[-1]
        self.answers[f"{what} {answer.status}{kind}"] += 1
        self.errors += answer.status not in wanted


@dataclass(frozen=True)
class Judged:
    """The figures that are judged, and what is wrong with them."""

    figures: dict[str, Any]
    faults: list[str]


class Clients:
    """Uploads to a gateway until the time is over."""

    def __init__(self, url: str, template: Template, seen: Seen, until: float) -> None:
        """`until` is a time of the monotonic clock."""
        self._url, self._template, self._seen, self._until = url, template, seen, until
        self._number = FIRST_NUMBER

    async def run(self, clients: int, gateway: psutil.Process) -> None:
        """All clients at once, with a probe of whether the gateway still answers others."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client())
            group.create_task(self._probe())
            group.create_task(self._weigh(gateway, began))

    async def _client(self) -> None:
        while time.monotonic() < self._until:
            self._number += 1
            answer = await upload(self._url, self._template, self._number, SPEC)
            self._seen.note("upload", answer, (202, 429))
            if answer.status == 202:
                self._seen.transfer_s.append(answer.transfer_s)
                self._seen.accept_s.append(answer.accept_s)
                await self._forget(answer.json())
            elif answer.status == 429:
                self._seen.refuse_s.append(answer.accept_s)
                wait_s = float(answer.headers["retry-after"])
                self._seen.retry_after_s.append(wait_s)
                await asyncio.sleep(min(wait_s * random.uniform(1.0, 1.2), max(0.0, self._until - time.monotonic())))
            else:
                await asyncio.sleep(1.0)

    async def _forget(self, job: dict[str, Any]) -> None:
        """Keep the disk from filling; the job may have ended before it was cancelled."""
        cancelled = await ask(self._url, "POST", f"/v1/jobs/{job['id']}/cancel")
        self._seen.note("cancel", cancelled, (200, 409))
        series = next(path for path in job["links"].values() if "/series/" in path)
        deleted = await ask(self._url, "DELETE", f"{series}?results=delete")
        self._seen.note("delete", deleted, (204,))

    async def _probe(self) -> None:
        while time.monotonic() < self._until:
            began = time.perf_counter()
            self._seen.note("live", await ask(self._url, "GET", "/health/live"), (200,))
            self._seen.probe_s.append(time.perf_counter() - began)
            await asyncio.sleep(0.5)

    async def _weigh(self, gateway: psutil.Process, began: float) -> None:
        while time.monotonic() < self._until:
            self._seen.resident.append(((time.monotonic() - began) / 60, gateway.memory_info().rss / MIB))
            children = [_resident(child) for child in gateway.children(recursive=True)]
            self._seen.readers.append(sum(children) / MIB)
            await asyncio.sleep(1.0)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def judge(seen: Seen, minutes: float, p95_s: float) -> Judged:
    """Whether there was no error but 429, acceptance was quick, and memory stayed flat after the first quarter."""
    settled = [(at, mib) for at, mib in seen.resident if at >= WARM_UP * minutes]
    per_minute = slope(settled)
    middle = percentile([mib for _, mib in settled], 50)
    window = settled[-1][0] - settled[0][0] if settled else 0.0
    growth = per_minute * window / middle if settled else 0.0
    figures: dict[str, Any] = {"minutes": minutes, "accepted": len(seen.accept_s), "errors": seen.errors}
    for name in ("transfer_s", "accept_s", "refuse_s", "probe_s", "retry_after_s"):
        figures |= {f"{name[:-2]}_p{p}_s": percentile(getattr(seen, name), p) for p in (50, 95, 99)}
    figures |= {
        "gateway_mib_first": seen.resident[0][1] if seen.resident else float("nan"),
        "gateway_mib_median": middle,
        "gateway_mib_most": max((mib for _, mib in seen.resident), default=float("nan")),
        "gateway_mib_per_minute": per_minute,
        "gateway_growth": growth,
        "readers_mib_most": max(seen.readers, default=float("nan")),
    }
    faults = []
    if seen.errors:
        faults.append(f"{seen.errors} answers were errors other than 429")
    if not seen.accept_s:
        faults.append("nothing was accepted")
    elif figures["accept_p95_s"] >= p95_s:
        faults.append(f"the 95th percentile of the time to accept is {figures['accept_p95_s']:.2f} s, not under {p95_s:g} s")
    if growth > GROWTH:
        faults.append(f"the gateway's memory grew by {growth:.0%} over {window:.1f} minutes")
    return Judged(figures, faults)


def measure(folder: Path, clients: int, minutes: float, matrix: int) -> Seen:
    """Start everything below a folder, and let the clients loose on it."""
    paths = write_series(make_phantom(4, slices=SLICES, matrix=matrix), folder / "source", seed=4)
    with Servers(folder) as servers:
        (database_url,) = servers.postgres("spinepaint")
        servers.environment |= {"SPINEPAINT_DATABASE_URL": database_url, "SPINEPAINT_MAX_QUEUED_JOBS": "1000000"}
        servers.valkey()
        servers.objects()
        gateway, url = servers.gateway()
        servers.worker("worker")
        seen = Seen()
        running = Clients(url, Template.of(paths), seen, time.monotonic() + 60 * minutes)
        asyncio.run(running.run(clients, psutil.Process(gateway.pid)))
        return seen


def main(words: Sequence[str] | None = None) -> int:
    """Run the load and print what was seen; 1 where it does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--matrix", type=int, default=MATRIX)
    parser.add_argument("--p95-s", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="spinepaint-") as folder:
        seen = measure(Path(folder), asked.clients, asked.minutes, asked.matrix)
    judged = judge(seen, asked.minutes, asked.p95_s)
    print(table(("answer", "times"), [{"answer": name, "times": times} for name, times in sorted(seen.answers.items())]))
    print()
    print(table(("figure", "value"), [{"figure": name, "value": value} for name, value in judged.figures.items()]))
    if asked.json:
        told = {"clients": asked.clients, "figures": judged.figures, "faults": judged.faults, "answers": dict(seen.answers)}
        asked.json.write_text(json.dumps(told | {"resident_mib": seen.resident}, indent=1) + "\n")
    for fault in judged.faults:
        print(f"fails: {fault}", file=sys.stderr)
    return 1 if judged.faults else 0


if __name__ == "__main__":
    sys.exit(main())
