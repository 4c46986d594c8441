"""Those who use the service while it fails: what they asked for, and what they were told."""

import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.standin import content_hash
from tests.imaging.series_factory import make_series

EDIT = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small"}
SOURCES = 4
PATIENCE_S = 240.0
TIMEOUT_S = 30.0
"""An answer that takes longer is a lost one."""
GIVES_UP, UPLOADS, CANCELS, CALLBACKS, DELIVERIES = 0.3, 0.15, 0.04, 0.5, 0.15
"""How likely: to leave it at a lost answer; to send the series with the job; to cancel; to want a webhook; a delivery."""


@dataclass(frozen=True)
class Source:
    """A series that jobs are made of."""

    files: dict[str, bytes]
    sha256: str


@dataclass
class Asked:
    """A job that was asked for. `job_id` is there once a 202 was seen; `lost` counts answers that were not."""

    seed: int
    source: Source
    uploads: bool
    callback: bool
    delivery: bool
    cancels: bool
    began: float = 0.0
    accepted: float = 0.0
    job_id: str | None = None
    lost: int = 0
    cancelled: bool = False
    refused: str | None = None

    @property
    def key(self) -> str:
        """The Idempotency-Key of every try."""
        return f"chaos-{self.seed}"


def make_sources(folder: Path) -> list[Source]:
    """Small series that differ."""
    found = []
    for seed in range(SOURCES):
        paths = make_series(folder / str(seed), slices=5, rows=64, columns=64, spacing_mm=(4.4, 2.0, 2.0), seed=seed)
        files = {path.name: path.read_bytes() for path in paths}
        found.append(Source(files, content_hash(files)))
    return found


def make_wishes(seed: int, count: int, sources: Sequence[Source]) -> list[Asked]:
    """What is going to be asked for; the numbers are the jobs' own, and give their seeds."""
    chance = random.Random(f"wishes/{seed}")
    return [
        Asked(
            seed=1000 * seed + number,
            source=chance.choice(sources),
            uploads=chance.random() < UPLOADS,
            callback=chance.random() < CALLBACKS,
            delivery=chance.random() < DELIVERIES,
            cancels=chance.random() < CANCELS,
        )
        for number in range(count)
    ]


@dataclass
class Callers:
    """Submit over HTTP at whichever gateway, try again where no answer came, and sometimes leave it at that."""

    urls: Sequence[str]
    hook: str
    series: dict[str, str] = field(default_factory=dict)

    def upload(self, sources: Sequence[Source]) -> None:
        """Before anything fails."""
        with self._client(PATIENCE_S) as client:
            for source in sources:
                answer = client.post(f"{self.urls[0]}/v1/series", files=_files(source)).raise_for_status()
                self.series[source.sha256] = answer.json()["id"]

    def run(self, wishes: Sequence[Asked], seconds: float, at_once: int = 8) -> None:
        """Ask for all of it, evenly over so long; returns once everybody has an answer or has given up."""
        began = time.monotonic()
        threads = []
        for place in range(at_once):
            mine = [(seconds * number / len(wishes), wish) for number, wish in enumerate(wishes)][place::at_once]
            threads.append(threading.Thread(target=self._ask_for_all, args=(began, mine), name=f"caller-{place}", daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _ask_for_all(self, began: float, wishes: Sequence[tuple[float, Asked]]) -> None:
        with self._client() as client:
            for at_s, wish in wishes:
                time.sleep(max(0.0, began + at_s - time.monotonic()))
                chance = random.Random(f"caller/{wish.seed}")
                wish.began = time.monotonic()
                self._ask(client, wish, chance)
                if wish.cancels and wish.job_id is not None:
                    self._cancel(client, wish, chance)

    def _ask(self, client: httpx.Client, wish: Asked, chance: random.Random) -> None:
        while time.monotonic() < wish.began + PATIENCE_S:
            try:
                answer = self._submit(client, wish, chance.choice(self.urls))
            except httpx.HTTPError as error:
                if not isinstance(error, httpx.ConnectError):  # else nobody was asked
                    wish.lost += 1
                    if chance.random() < GIVES_UP:
                        return
                time.sleep(chance.uniform(0.1, 0.5))
                continue
            if answer.status_code == 202:
                wish.job_id, wish.accepted = answer.json()["id"], time.monotonic()
                return
            if answer.status_code < 500 and answer.status_code != 429:  # too much at once is no refusal of the job
                wish.refused = f"{answer.status_code} {answer.text}"
                return
            time.sleep(chance.uniform(0.2, 1.0))

    def _submit(self, client: httpx.Client, wish: Asked, url: str) -> httpx.Response:
        spec: dict[str, Any] = EDIT | {"seed": wish.seed}
        if wish.callback:
            spec["callback_url"] = f"{self.hook}/{wish.seed}"
        if wish.delivery:
            spec["destination"] = "pacs"
        headers = {"Idempotency-Key": wish.key}
        if wish.uploads:
            form = {"spec": json.dumps(spec)}
            return client.post(f"{url}/v1/inpaint", files=_files(wish.source), data=form, headers=headers)
        return client.post(f"{url}/v1/jobs", json=spec | {"series_id": self.series[wish.source.sha256]}, headers=headers)

    def _cancel(self, client: httpx.Client, wish: Asked, chance: random.Random) -> None:
        time.sleep(chance.uniform(0.0, 0.5))
        try:
            answer = client.post(f"{chance.choice(self.urls)}/v1/jobs/{wish.job_id}/cancel")
        except httpx.HTTPError:
            return
        wish.cancelled = answer.status_code == 200

    def _client(self, timeout_s: float = TIMEOUT_S) -> httpx.Client:
        return httpx.Client(timeout=timeout_s, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


def _files(source: Source) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (name, data)) for name, data in source.files.items()]
