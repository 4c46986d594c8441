"""From an upload to a series in the ledger: wholly checked first, or nothing is kept."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from spinepaint.app.checking import check_apart
from spinepaint.app.disk_room import READERS, unpacked_within
from spinepaint.app.reader import read_apart
from spinepaint.app.upload_form import Upload
from spinepaint.app.warm_reader import WarmReader
from spinepaint.imaging.errors import Refusal
from spinepaint.settings import Settings
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.dicom_entries import StoredInstance, StoredSeries, by_series
from spinepaint.store.errors import LedgerError, StoringTimeout
from spinepaint.store.layout import new_id, source_prefix
from spinepaint.store.ledger import Ledger
from spinepaint.store.models import Job, Series
from spinepaint.store.series import NewSeries

# Failure Reason (0008,1197) of instances whose UIDs are kept as those of another study or series (PS3.18 I.2.2).
ANOTHER_STUDY = 0xA901
ANOTHER_SERIES = 0xA902  # and not 0111H, which tells a sender that what it sent is there

T = TypeVar("T")


@dataclass(frozen=True)
class Stored:
    """What became of a DICOMweb store request: the series that were taken, and each instance that was not."""

    series: list[tuple[Series, StoredSeries]]
    failures: list[dict[str, Any]]


class Intake:
    """Takes uploads in, off the event loop."""

    def __init__(self, settings: Settings, ledger: Ledger, artifacts: ArtifactStore, reader: WarmReader) -> None:
        """Take uploads into this ledger and this store, read by what `reader` forks."""
        self._settings = settings
        self._ledger = ledger
        self._artifacts = artifacts
        self._reader = reader
        self._readers = CapacityLimiter(READERS)

    def into(self, ledger: Ledger) -> "Intake":
        """The same, entering what it takes into the ledger as a caller sees it; the readers are shared."""
        intake = Intake(self._settings, ledger, self._artifacts, self._reader)
        intake._readers = self._readers
        return intake

    async def admit(self, upload: Upload, series_uid: str | None, *, allow_synthetic: bool = False) -> Series:
        """Read and check the upload, store the files of its series, and enter it; a synthetic one only with `allow_synthetic`.

        Raises Refusal with the client's own file names.
        """
        return await self._admit(upload, series_uid, self._ledger.enter_series, allow_synthetic)

    async def admit_for(
        self, upload: Upload, series_uid: str | None, submit: Callable[[NewSeries], Job], *, allow_synthetic: bool = False
    ) -> Job:
        """As `admit`, but `submit` enters the series, with a job for it: both, or neither.

        Where it enters none, since the job of an earlier request does, or since it raises Refusal or LedgerError, no file stays.
        """

        def enter(new: NewSeries) -> Job:
            job = submit(new)
            if job.series_id != new.id:
                self._withdraw(new)
            return job

        return await self._admit(upload, series_uid, enter, allow_synthetic)

    async def check(self, upload: Upload, series_uid: str | None, *, allow_synthetic: bool = False) -> dict[str, Any]:
        """The report of `spinepaint check` for an upload, with the client's own file names."""
        how: dict[str, Any] = {"allow_synthetic": allow_synthetic, "answer_to": self._reader.answer}
        work = partial(check_apart, upload.source, series_uid, **how)
        report = await to_thread.run_sync(partial(self._within_disk, upload, work), limiter=self._readers)
        for item in report["files"]:
            item["file"] = upload.names.get(item["file"], item["file"])
        return report

    async def store(self, upload: Upload, study_uid: str | None, *, allow_synthetic: bool = False) -> Stored:
        """Take every series of an upload that is accepted, all of them of `study_uid` where one is given.

        A series that is kept already with the same content is not kept twice, but is the one that was stored last. One whose UIDs
        are kept as those of another study or series is not taken: it would hide what is kept.
        """
        return await to_thread.run_sync(partial(self._store, upload, study_uid, allow_synthetic), limiter=self._readers)

    async def _admit(self, upload: Upload, series_uid: str | None, enter: Callable[[NewSeries], T], allow_synthetic: bool) -> T:
        def read_and_store() -> NewSeries:
            found, folder = self._read(upload, series_uid, allow_synthetic)
            new = self._described(found)
            self._put(new, found, folder)
            return new

        try:
            new = await to_thread.run_sync(read_and_store, limiter=self._readers)
            # Without a reader's place: to enter it may mean to wait for others of the same tenant.
            return await to_thread.run_sync(partial(self._entered, new, enter))
        except Refusal as refusal:
            raise upload.named(refusal) from None

    def _read(self, upload: Upload, series_uid: str | None, allow_synthetic: bool) -> tuple[dict[str, Any], Path]:
        """What is read of the upload's series, and the folder that its files are in."""
        spill = upload.folder / "unpacked"
        if upload.source.is_file():
            spill.mkdir()
        how: dict[str, Any] = {"allow_synthetic": allow_synthetic, "answer_to": self._reader.answer}
        found = self._within_disk(upload, partial(read_apart, "read", upload.source, series_uid, spill=spill, **how))
        return found, spill if spill.exists() and any(spill.iterdir()) else upload.folder

    def _within_disk(self, upload: Upload, read: Callable[..., T]) -> T:
        settings = self._settings
        return unpacked_within(lambda caps: read(caps=caps), settings.caps, upload.folder, settings.disk_reserve_bytes)

    def _store(self, upload: Upload, study_uid: str | None, allow_synthetic: bool) -> Stored:
        how: dict[str, Any] = {"allow_synthetic": allow_synthetic, "answer_to": self._reader.answer}
        answer = self._within_disk(upload, partial(read_apart, "store", upload.folder, None, study_uid=study_uid, **how))
        failures = [failure | {"file": upload.names.get(failure["file"])} for failure in answer["failures"]]
        series = []
        for found in answer["series"]:
            if refused := self._contradictions(found, upload):
                failures += refused
            else:
                series.append(self._keep_once(found, upload.folder))
        return Stored(series, failures)

    def _contradictions(self, found: dict[str, Any], upload: Upload) -> list[dict[str, Any]]:
        """A failure for each instance of a series whose UIDs are kept as those of something else; none where all is well."""
        indexed = [file["indexed"] for file in found["files"]]
        study_uid, series_uid = indexed[0]["study_uid"], indexed[0]["series_uid"]
        moved, taken = self._ledger.kept_elsewhere(study_uid, series_uid, [of["sop_instance_uid"] for of in indexed])
        if not moved and not taken:
            return []
        own = "its SOP Instance UID is kept already in another series"
        whole = "its Series Instance UID is kept in another study" if moved else "others of its series are kept in another"
        return [
            {
                "file": upload.names.get(file["name"]),
                "sop_class_uid": of["sop_class_uid"],
                "sop_instance_uid": of["sop_instance_uid"],
                "code": ANOTHER_STUDY if moved else ANOTHER_SERIES,
                "reason": own if of["sop_instance_uid"] in taken and not moved else whole,
            }
            for file, of in zip(found["files"], indexed, strict=True)
        ]

    def _keep_once(self, found: dict[str, Any], folder: Path) -> tuple[Series, StoredSeries]:
        """Keep a series, unless the same is kept already: then that is the one that was stored last."""
        new = self._described(found)
        dicom = new.dicom[0]
        first = self._ledger.source_of(dicom.series_uid, dicom.digest)
        if first is not None and self._ledger.store_again(first.id):
            return first, dicom
        self._put(new, found, folder)
        return self._entered(new, self._ledger.enter_series), dicom

    def _described(self, found: dict[str, Any]) -> NewSeries:
        """A series that was read, with the places that its files are to have."""
        series_id = new_id()
        prefix = source_prefix(series_id)
        dicom = by_series(StoredInstance(prefix + file["name"], file["indexed"]) for file in found["files"] if file["indexed"])
        alone = not dicom and len(found["files"]) == 1  # perhaps a zip, which is opened only where it is not in a folder
        return NewSeries(
            id=series_id,
            sha256=found["sha256"],
            geometry=found["geometry"],
            warnings=found["warnings"],
            artifact_key=prefix + found["files"][0]["name"] if alone else prefix,
            dicom=dicom,
            storing_limit=timedelta(seconds=self._settings.storing_limit_s),
        )

    def _put(self, new: NewSeries, found: dict[str, Any], folder: Path) -> None:
        """Store the files of a series; where one cannot be stored, none stays."""
        prefix = source_prefix(new.id)
        if new.storing_limit is not None:
            self._ledger.begin_storing(prefix, new.storing_limit)
        try:
            for file in found["files"]:
                self._artifacts.put_file(prefix + file["name"], folder / file["name"])
        except BaseException:
            self._withdraw(new)
            raise

    def _entered(self, new: NewSeries, enter: Callable[[NewSeries], T]) -> T:
        """Have a series entered whose files are stored: what `enter` returns.

        Where the database did not say what became of it nothing is deleted: it may have been entered all the same, and if it
        was not, its files go as was planned before there were any.
        """
        try:
            return enter(new)
        except StoringTimeout:
            self._withdraw(new)
            raise Refusal("storing-timeout", "Storing the upload took too long.", "Send it again.", status=503) from None
        except (Refusal, LedgerError):
            self._withdraw(new)
            raise

    def _withdraw(self, new: NewSeries) -> None:
        """Delete the files of a series that was not entered. What cannot be deleted now will be, as was planned."""
        with suppress(Exception):
            self._artifacts.delete_prefix(source_prefix(new.id))
