"""A whole deployment on loopback: PostgreSQL, Valkey, an S3 store, two gateways, three workers."""

import base64
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.faults import GATEWAYS, STALE_AFTER_S, WORKERS
from tests.chaos.members import CLI, Gateway, Member, Worker
from tests.chaos.receivers import Receivers, receiving
from tests.chaos.servers import BUCKET, Objects, Postgres, Valkey, plain_environment, until
from tests.chaos.standin import DIARY

JOB_LIMIT_S = 30.0
ATTEMPT_LIMIT_S = JOB_LIMIT_S + 2 * STALE_AFTER_S
QUICK = {
    "HEARTBEAT_S": "1",
    "STALE_AFTER_S": str(STALE_AFTER_S),
    "JOB_LIMIT_S": str(JOB_LIMIT_S),
    "STORING_LIMIT_S": "20",
    "PROGRESS_S": "0.2",
    "REAP_EVERY_S": "1",
    "ANNOUNCE_EVERY_S": "0.5",
    "RETRY_DELAY_S": "0.5",
    "REANNOUNCE_AFTER_S": "3",
    "DELIVERY_RETRY_S": "0.5",
    "DELIVERY_TIMEOUT_S": "8",
    "DELIVERY_ATTEMPTS": "20",
    "WEBHOOK__RETRY_S": "0.5",
    "WEBHOOK__TIMEOUT_S": "8",
    "WEBHOOK__LIMIT_S": "12",
    "WEBHOOK__ALLOW_HTTP": "true",
    "WEBHOOK__PRIVATE_HOSTS": '["127.0.0.1"]',
    "WEBHOOK__SECRET": "whsec_" + base64.b64encode(bytes(range(32))).decode(),
    "MIGRATE_AT_START": "false",
}
"""The settings of a service that is to be seen recovering within minutes; everything else is as by default."""


@dataclass
class Site:
    """What runs, and where it keeps its files."""

    folder: Path
    postgres: Postgres
    valkey: Valkey
    objects: Objects
    receivers: Receivers
    gateways: list[Gateway]
    workers: list[Worker]

    @property
    def members(self) -> list[Member]:
        return [*self.gateways, *self.workers]

    @property
    def diary(self) -> Path:
        """The seed of a job, a line for each start of the pipeline."""
        return self.folder / "diary"


@contextmanager
def running(folder: Path) -> Iterator[Site]:
    """A deployment that is ready; at the end nothing of it runs. `folder` must be open to PostgreSQL's own user."""
    with ExitStack() as stack:
        postgres = Postgres(folder / "postgres")
        stack.callback(postgres.close)
        valkey = Valkey(folder)
        stack.callback(valkey.kill)
        objects = Objects(folder)
        stack.callback(objects.close)
        valkey.start()
        objects.start()
        objects.make_bucket()
        receivers = stack.enter_context(receiving())
        shared = plain_environment() | objects.environment | {f"SPINEPAINT_{name}": value for name, value in QUICK.items()}
        shared |= {
            "SPINEPAINT_DATABASE_URL": postgres.url,
            "SPINEPAINT_BROKER_URL": valkey.url,
            "SPINEPAINT_ARTIFACTS_URL": f"s3://{BUCKET}",
            "SPINEPAINT_DESTINATIONS": json.dumps({"pacs": {"type": "stow", "url": receivers.url}}),
            DIARY: str(folder / "diary"),
        }
        subprocess.run([*CLI, "migrate"], env=shared, check=True, capture_output=True, cwd=folder)
        gateways = [Gateway(f"gateway-{n}", folder / f"gateway-{n}", shared) for n in range(1, GATEWAYS + 1)]
        workers = [Worker(f"worker-{n}", folder / f"worker-{n}", shared) for n in range(1, WORKERS + 1)]
        site = Site(folder, postgres, valkey, objects, receivers, gateways, workers)
        for member in site.members:
            stack.callback(member.close)
            member.start()
        stack.enter_context(_tended(site.members))
        for gateway in gateways:
            until(gateway.ready, gateway.name)
        yield site


@contextmanager
def _tended(members: list[Member]) -> Iterator[None]:
    ended = threading.Event()

    def tend() -> None:
        while not ended.wait(0.5):
            for member in members:
                member.tend()

    thread = threading.Thread(target=tend, name="tend")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
