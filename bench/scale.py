"""Whether two workers do twice as much as one, and what a job costs the servers behind: `python -m bench.scale`.

Starts PostgreSQL, Valkey, an S3 store, a gateway, and workers that sleep where the networks would compute. Every figure is from
the servers' own statistics. Exits with 1 where two workers are less than `--limit` times as fast as one.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from bench.counters import Counters, Counts, onlooker_url
from bench.load import MATRIX, SLICES, SPEC
from bench.ratios import table
from bench.servers import Servers, end, until
from bench.standin import STEP_S
from spinepaint.store import JobOrder, Ledger
from spinepaint.store.database import utc_now
from spinepaint.training.phantom import make_phantom, write_series

LIMIT = 1.8
GPUS = 1000
PATIENCE_S = 1200.0
SETTLE_S = 5.0
"""Until workers that have come have passed over what was cancelled before."""


@dataclass(frozen=True)
class Load:
    """What the servers do for one job, by the seconds that it takes a worker, and for one worker a second without any job."""

    accept: Counts
    work: dict[float, Counts]
    idle: Counts
    connections: float
    """To the database, of one worker."""
    took_s: dict[float, float]
    """What a job of a length truly took, from its claim to its end: on a machine that has better to do it is longer."""

    def each_second(self, gpus: int, job_s: float) -> Counts:
        """For so many GPUs, each of which is always at a job of that length."""
        return (self.accept + self.work[job_s]).times(gpus / job_s) + self.idle.times(gpus)


class Site:
    """The servers, a gateway, and a ledger to look on from whose statements are not counted."""

    def __init__(self, servers: Servers, folder: Path, matrix: int) -> None:
        """Start all but the workers."""
        (url,) = servers.postgres("spinepaint")
        servers.environment |= {"SPINEPAINT_DATABASE_URL": url}
        broker, metrics = servers.valkey(), servers.objects()
        self.servers = servers
        _, self.url = servers.gateway()
        looking_url = onlooker_url(url)
        self.ledger = Ledger(looking_url)
        self.counters = Counters(looking_url, broker, metrics)
        paths = write_series(make_phantom(4, slices=SLICES, matrix=matrix), folder / "source", seed=4)
        self.files = [("files", (path.name, path.read_bytes())) for path in paths]

    def close(self) -> None:
        """Let go of the servers."""
        self.ledger.close()
        self.counters.close()

    def submit(self, jobs: int, job_s: float) -> list[str]:
        """Upload and submit over HTTP, one after the other; the ids."""
        spec = json.dumps(SPEC | {"steps": round(job_s / STEP_S)})
        with httpx.Client(base_url=self.url, timeout=300) as client:
            answers = [client.post("/v1/inpaint", files=self.files, data={"spec": spec}) for _ in range(jobs)]
        return [str(answer.raise_for_status().json()["id"]) for answer in answers]

    def start_workers(self, count: int) -> list[Any]:
        """Start workers and wait until all of them are there."""
        workers = [self.servers.worker(f"worker-{number}") for number in range(count)]
        until(lambda: len(self._present()) == count, PATIENCE_S)
        return workers

    def stop_workers(self, workers: Sequence[Any]) -> None:
        """End workers, who take leave."""
        for worker in workers:
            end(worker)
        until(lambda: not self._present(), PATIENCE_S)

    def span_s(self, jobs: Sequence[str]) -> float:
        """Wait until all jobs have succeeded; seconds from the first claim to the last end."""
        until(lambda: self.ledger.count_states()["queued"] + self.ledger.count_states()["running"] == 0, PATIENCE_S)
        found = [self.ledger.get_job(job_id) for job_id in jobs]
        started = [job.started_at for job in found if job is not None and job.state == "succeeded" and job.started_at]
        finished = [job.finished_at for job in found if job is not None and job.finished_at]
        if len(started) != len(jobs):
            raise RuntimeError("not every job has succeeded")
        return (max(finished) - min(started)).total_seconds()

    def _present(self) -> list[Any]:
        return list(self.ledger.figures(utc_now() - timedelta(minutes=1)).workers)


def span_of(site: Site, workers: int, jobs: int, job_s: float) -> float:
    """Seconds that so many workers take for a batch that waits when they come."""
    ids = site.submit(jobs, job_s)
    started = site.start_workers(workers)
    span_s = site.span_s(ids)
    site.stop_workers(started)
    return span_s


def load_of(site: Site, jobs: int, lengths_s: Sequence[float], idle_s: float) -> Load:
    """Count what accepting an upload costs, what workers without jobs do, and what jobs of several lengths cost beside that."""
    before = site.counters.now()
    uploads = [site.ledger.cancel(job_id) for job_id in site.submit(jobs, lengths_s[0])]
    accept = (site.counters.now() - before).times(1 / jobs)
    alone = site.counters.connections()
    workers = site.start_workers(2)
    time.sleep(SETTLE_S)
    before, began = site.counters.now(), time.monotonic()
    time.sleep(idle_s)
    idle = (site.counters.now() - before).times(1 / (2 * (time.monotonic() - began)))
    work, took_s = {}, {}
    for job_s in lengths_s:
        spec = uploads[0].spec | {"steps": round(job_s / STEP_S)}
        orders = [JobOrder(str(job.series_id), spec) for job in uploads][: max(2, round(jobs * lengths_s[0] / job_s))]
        batch = site.ledger.submit_batch(orders)
        before, began = site.counters.now(), time.monotonic()
        site.span_s([job.id for job in site.ledger.batch_jobs(batch.id)])
        spent = site.counters.now() - before - idle.times(2 * (time.monotonic() - began))
        # A worker at a job does not ask the broker for more, so of that less comes than idle ones would have asked.
        work[job_s] = spent.times(1 / len(orders)).at_least_nothing()
        items = site.ledger.batch_items(batch.id)
        lasted = [item.finished_at - item.started_at for item in items if item.finished_at and item.started_at]
        took_s[job_s] = sum(each.total_seconds() for each in lasted) / len(lasted)
    connections = (site.counters.connections() - alone) / 2
    site.stop_workers(workers)
    return Load(accept, work, idle, connections, took_s)


def rows(load: Load, gpus: int) -> list[dict[str, object]]:
    """A row for each figure: what was counted, and what that comes to for so many GPUs."""
    every = {job_s: load.each_second(gpus, job_s) for job_s in load.work}
    names = sorted({name for counts in (load.accept, *load.work.values(), load.idle) for name in counts.numbers})
    return [
        {"what": name, "accept": load.accept.numbers.get(name, 0.0), "idle worker a second": load.idle.numbers.get(name, 0.0)}
        | {f"job of {job_s:g} s": counts.numbers.get(name, 0.0) for job_s, counts in load.work.items()}
        | {f"{gpus} at {job_s:g} s, a second": counts.numbers.get(name, 0.0) for job_s, counts in every.items()}
        for name in names
    ]


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and print the figures and what they come to; 1 where two workers are not fast enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0, help="that a job sleeps")
    parser.add_argument("--long-seconds", type=float, default=10.0, help="that a longer one sleeps, for what a job costs")
    parser.add_argument("--idle-s", type=float, default=30.0)
    parser.add_argument("--matrix", type=int, default=MATRIX)
    parser.add_argument("--gpus", type=int, default=GPUS)
    parser.add_argument("--limit", type=float, default=LIMIT)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="spinepaint-") as name, Servers(Path(name)) as servers:
        site = Site(servers, Path(name), asked.matrix)
        try:
            load = load_of(site, asked.jobs, (asked.seconds, asked.long_seconds), asked.idle_s)
            one_s, two_s = (span_of(site, workers, asked.jobs, asked.seconds) for workers in (1, 2))
        finally:
            site.close()
    counted = rows(load, asked.gpus)
    print(f"\n{asked.jobs} jobs of {asked.seconds:g} s: one worker {one_s:.1f} s, two {two_s:.1f} s, ratio {one_s / two_s:.2f}")
    print(f"connections to the database: {load.connections:g} a worker")
    print("; ".join(f"a job of {job_s:g} s took {took_s:.1f} s" for job_s, took_s in load.took_s.items()) + "\n")
    print(table(tuple(counted[0]), counted))
    if asked.json:
        told = {
            "one_s": one_s,
            "two_s": two_s,
            "ratio": one_s / two_s,
            "connections": load.connections,
            "took_s": load.took_s,
            "counts": counted,
        }
        asked.json.write_text(json.dumps(told, indent=1) + "\n")
    if one_s / two_s < asked.limit:
        print(f"fails: two workers are {one_s / two_s:.2f} times as fast as one, not {asked.limit:g}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
