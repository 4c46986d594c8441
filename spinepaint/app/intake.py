"""From an upload to a series in the ledger: wholly checked first, or nothing is kept."""

from functools import partial
from typing import Any

from anyio import CapacityLimiter, to_thread

from spinepaint.app.checking import check_apart
from spinepaint.app.reader import read_apart
from spinepaint.app.uploads import Upload
from spinepaint.imaging.errors import Refusal
from spinepaint.settings import Settings
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.layout import new_id, source_prefix
from spinepaint.store.ledger import Ledger
from spinepaint.store.models import Series

# Each decodes a whole series in memory.
READERS = 2


class Intake:
    """Takes uploads in, off the event loop."""

    def __init__(self, settings: Settings, ledger: Ledger, artifacts: ArtifactStore) -> None:
        """Take uploads into this ledger and this store."""
        self._settings = settings
        self._ledger = ledger
        self._artifacts = artifacts
        self._readers = CapacityLimiter(READERS)

    async def admit(self, upload: Upload, series_uid: str | None) -> Series:
        """Read and check the upload, store the files of its series, and enter it.

        Raises Refusal with the client's own file names.
        """
        try:
            return await to_thread.run_sync(partial(self._admit, upload, series_uid), limiter=self._readers)
        except Refusal as refusal:
            raise upload.named(refusal) from None

    async def check(self, upload: Upload, series_uid: str | None) -> dict[str, Any]:
        """The report of `spinepaint check` for an upload, with the client's own file names."""
        work = partial(check_apart, upload.source, series_uid, self._settings.caps)
        report = await to_thread.run_sync(work, limiter=self._readers)
        for item in report["files"]:
            item["file"] = upload.names.get(item["file"], item["file"])
        return report

    def _admit(self, upload: Upload, series_uid: str | None) -> Series:
        found = read_apart("read", upload.source, series_uid, self._settings.caps)
        series_id = new_id()
        prefix = source_prefix(series_id)
        try:
            return self._ledger.add_series(
                series_id=series_id,
                sha256=found["sha256"],
                geometry=found["geometry"],
                warnings=found["warnings"],
                artifact_key=self._store(upload, found["files"], prefix),
            )
        except BaseException:
            self._artifacts.delete_prefix(prefix)
            raise

    def _store(self, upload: Upload, accepted: list[str], prefix: str) -> str:
        """Keep the one file, or those of the many that belong to the series; the artifact's key."""
        if len(upload.names) == 1:
            name = next(iter(upload.names))
            self._artifacts.put_file(prefix + name, upload.source)
            return prefix + name
        for name in accepted:
            self._artifacts.put_file(prefix + name, upload.folder / name)
        return prefix
