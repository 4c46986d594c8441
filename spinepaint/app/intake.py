"""From an upload to a series in the ledger: wholly checked first, or nothing is kept."""

from functools import partial
from typing import Any

from anyio import CapacityLimiter, to_thread

from spinepaint.app.uploads import Upload
from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.reading import SourceSeries, check, read_series
from spinepaint.settings import Settings
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.layout import new_id, source_prefix
from spinepaint.store.ledger import Ledger
from spinepaint.store.models import Series

# A series is decoded whole to check it, so only so many at a time may be in memory.
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
        work = partial(check, upload.source, series_uid=series_uid, caps=self._settings.caps)
        report = (await to_thread.run_sync(work, limiter=self._readers)).as_dict()
        for item in report["files"]:
            item["file"] = upload.names.get(item["file"], item["file"])
        return report

    def _admit(self, upload: Upload, series_uid: str | None) -> Series:
        source = read_series(upload.source, series_uid=series_uid, caps=self._settings.caps)
        series_id = new_id()
        prefix = source_prefix(series_id)
        try:
            key = self._store(upload, source, prefix)
            return self._ledger.add_series(
                series_id=series_id,
                sha256=source.sha256,
                geometry=_geometry(source),
                warnings=list(source.warnings),
                artifact_key=key,
            )
        except BaseException:
            self._artifacts.delete_prefix(prefix)
            raise

    def _store(self, upload: Upload, source: SourceSeries, prefix: str) -> str:
        """Keep the one file, or those of the many that belong to the series; the artifact's key."""
        if len(upload.names) == 1:
            name = next(iter(upload.names))
            self._artifacts.put_file(prefix + name, upload.source)
            return prefix + name
        for verdict in source.report.files:
            if verdict.verdict == "accepted":
                self._artifacts.put_file(prefix + verdict.file, upload.folder / verdict.file)
        return prefix


def _geometry(source: SourceSeries) -> dict[str, Any]:
    volume = source.volume
    return {
        "series_uid": source.series_uid,
        "instances": len(volume.datasets),
        "shape": list(volume.voxels.shape),
        "spacing_mm": list(volume.spacing),
        "affine": volume.affine.tolist(),
    }
