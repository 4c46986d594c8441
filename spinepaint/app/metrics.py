"""What Prometheus reads at `/metrics`.

Figures about jobs come from the ledger, so every gateway tells the same ones and none of them is lost with a process. What
this gateway did itself, its requests and its memory, it counts itself. Labels are states, stages, slugs of problems, templates
of routes and names of worker processes: nothing that a caller or a file could fill.
"""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import timedelta

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from spinepaint.app.bounded import Bounded
from spinepaint.settings import Settings
from spinepaint.store.database import utc_now
from spinepaint.store.figures import Figures, Tallies
from spinepaint.store.ledger import Ledger
from spinepaint.store.tallies import ATTEMPTS, BOUNDS, FAILURES, STAGE_S, TOOK_S, TRANSITIONS, WAITED_S

LEDGER_TIMEOUT_S = 5.0
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


class HttpMetrics:
    """Requests of this process, in a registry of its own."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "spinepaint_http_requests",
            "Requests answered, by the template of the route; status 0 is none, the client having gone.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "spinepaint_http_request_duration_seconds",
            "Time until the last byte of the answer; streams of events take as long as their jobs.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


class LedgerMetrics(Collector):
    """Figures of the ledger, read when they are asked for."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        """`settings` say after how long a silent worker counts as gone."""
        stale = timedelta(seconds=settings.stale_after_s)
        self._figures = Bounded(lambda: ledger.figures(utc_now() - stale))

    def describe(self) -> Iterable[Metric]:
        """Nothing: to register does not read the ledger."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All figures; only that there are none where the ledger does not answer in time."""
        began = time.monotonic()
        try:
            figures = self._figures.result(LEDGER_TIMEOUT_S)
        except Exception:
            yield GaugeMetricFamily("spinepaint_ledger_up", "Whether the ledger answers.", value=0)
            return
        yield GaugeMetricFamily("spinepaint_ledger_up", "Whether the ledger answers.", value=1)
        took_s = time.monotonic() - began
        yield GaugeMetricFamily("spinepaint_ledger_read_seconds", "How long it took to read these figures.", value=took_s)
        yield from _gauges(figures)
        yield from _workers(figures)
        yield from _tallied(figures.tallies)


def _gauges(figures: Figures) -> Iterator[Metric]:
    yield _by("spinepaint_jobs", "Jobs in the ledger, by state.", "state", figures.jobs.items())
    waited_s = 0.0
    if figures.oldest_queued_at is not None:
        waited_s = max(0.0, (utc_now() - figures.oldest_queued_at).total_seconds())
    yield GaugeMetricFamily(
        "spinepaint_oldest_queued_seconds", "Age of the oldest job that waits; 0 where none does.", value=waited_s
    )
    yield _by("spinepaint_webhooks", "Webhooks, by state.", "state", figures.webhooks.items())
    yield _by("spinepaint_deliveries", "Results on their way to destinations, by state.", "state", figures.deliveries.items())


def _workers(figures: Figures) -> Iterator[Metric]:
    workers = figures.workers
    yield GaugeMetricFamily("spinepaint_workers", "Worker processes that were heard of lately.", value=len(workers))
    memory = [(worker.name, worker.memory_bytes) for worker in workers]
    yield _by("spinepaint_worker_memory_bytes", "Resident memory of a worker process.", "worker", memory)
    total = [(worker.name, worker.gpu_memory_bytes) for worker in workers if worker.gpu_memory_bytes is not None]
    yield _by("spinepaint_worker_gpu_memory_bytes", "Memory of a worker's GPU.", "worker", total)
    used = [(worker.name, worker.gpu_memory_used_bytes) for worker in workers if worker.gpu_memory_used_bytes is not None]
    yield _by("spinepaint_worker_gpu_memory_used_bytes", "What is taken of it, by whomever.", "worker", used)


def _tallied(tallies: Tallies) -> Iterator[Metric]:
    yield _counter(tallies, TRANSITIONS, "spinepaint_job_transitions", "Changes of jobs to a state; running is an attempt.", "to")
    yield _counter(tallies, FAILURES, "spinepaint_job_failures", "Jobs that failed, by the type of their problem.", "problem")
    yield _histogram(tallies, WAITED_S, "spinepaint_job_wait_seconds", "From submission to the first attempt.")
    yield _histogram(tallies, TOOK_S, "spinepaint_job_duration_seconds", "From the first attempt to the end.", "state")
    yield _histogram(tallies, STAGE_S, "spinepaint_stage_duration_seconds", "Stages of the first sample of jobs.", "stage")
    yield _histogram(tallies, ATTEMPTS, "spinepaint_job_attempts", "Attempts that a job took to its end.", "state")


def _by(name: str, text: str, label: str, values: Iterable[tuple[str, int]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values:
        family.add_metric([value], number)
    return family


def _counter(tallies: Tallies, tally: str, name: str, text: str, label: str) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for (found, value, _bound), (count, _total) in sorted(tallies.items(), key=lambda item: item[0][:2]):
        if found == tally:
            family.add_metric([value], count)
    return family


def _histogram(tallies: Tallies, tally: str, name: str, text: str, label: str | None = None) -> Metric:
    family = HistogramMetricFamily(name, text, labels=[] if label is None else [label])
    counts: defaultdict[str, dict[float, int]] = defaultdict(dict)
    sums: defaultdict[str, float] = defaultdict(float)
    for (found, value, bound), (count, total) in tallies.items():
        if found == tally and bound is not None:
            counts[value][bound] = count
            sums[value] += total
    for value in sorted(counts):
        # Also bounds that an earlier version had: what was tallied then is still to be told.
        bounds = sorted({*BOUNDS[tally], *counts[value], math.inf})
        seen, buckets = 0, []
        for bound in bounds:
            seen += counts[value].get(bound, 0)
            buckets.append(("+Inf" if math.isinf(bound) else str(bound), seen))
        family.add_metric([] if label is None else [value], buckets, sums[value])
    return family
