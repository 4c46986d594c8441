"""A finished job that is owed to a destination."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spinepaint.destinations import StoreDestination, StowDestination
from spinepaint.imaging.dicom_index import index_instance
from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore, DicomDelivery, Job, Ledger, StoredInstance, by_series, result_prefix
from spinepaint.worker.delivery import Deliverer
from tests.worker.workplaces import add_source

SECRET = "Bearer do-not-log-me"
SIZE: dict[str, Any] = {"slices": 5, "rows": 32, "columns": 32, "spacing_mm": (4.4, 4.0, 4.0)}


@dataclass
class Office:
    """A ledger with one finished job that is owed to `pacs`."""

    settings: Settings
    ledger: Ledger
    artifacts: ArtifactStore
    files: list[Path]
    job: Job = field(init=False)

    def finish(self, succeed: bool = True, destination: str = "pacs") -> None:
        source = add_source(self.ledger, self.artifacts)
        self.job = self.ledger.submit_job(source.id, {}, destination=destination)
        claim = self.ledger.claim(self.job.id, "by hand")
        assert claim is not None
        if not succeed:
            self.ledger.fail(self.job.id, claim.token, {}, retry=False)
            return
        prefix, kept = result_prefix(self.job.id, claim.token), []
        for path in self.files:
            self.artifacts.put_file(prefix + path.name, path)
            with path.open("rb") as stream:
                indexed = index_instance(stream)
            assert indexed is not None
            kept.append(StoredInstance(prefix + path.name, indexed.as_dict()))
        assert self.ledger.succeed(self.job.id, claim.token, {}, prefix, by_series(kept))

    def towards(self, destination: Any, **options: Any) -> Deliverer:
        changed = {"destinations": {"pacs": destination}, "delivery_retry_s": 0.0, **options}
        self.settings = self.settings.model_copy(update=changed)
        return Deliverer(self.ledger, self.artifacts, self.settings)

    def delivery(self) -> DicomDelivery:
        (delivery,) = self.ledger.dicom_deliveries([self.job.id])
        return delivery

    def state(self) -> tuple[str, int]:
        return self.delivery().state, self.delivery().attempts

    def detail(self) -> str:
        problem = self.delivery().problem
        assert problem is not None
        assert problem["type"].endswith("/delivery-failed")
        return str(problem["detail"])


def stow(url: str) -> StowDestination:
    return StowDestination.model_validate({"type": "stow", "url": url, "authorization": SECRET})


def node_at(port: int, ae_title: str = "ARCHIVE") -> StoreDestination:
    return StoreDestination(type="c-store", host="127.0.0.1", port=port, ae_title=ae_title)
