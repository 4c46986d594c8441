"""A batch's results as one zip, streamed: an item at a time, so that memory holds the same however many there are."""

import json
from collections.abc import Iterator
from typing import IO, Any

from starlette.responses import StreamingResponse

from spinepaint.app.batch_manifest import item_folder, sample_lines, without_result
from spinepaint.app.results import STREAMED, ZIP, chosen_media_type
from spinepaint.app.threads import FILES
from spinepaint.app.zip_stream import ZipStream, spool, spooled
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.batches import BatchItem
from spinepaint.store.ledger import Ledger
from spinepaint.store.models import Batch, JobState

ITEMS_AT_ONCE = 100


def batch_result(batch: Batch, ledger: Ledger, artifacts: ArtifactStore, accept: str) -> StreamingResponse:
    """The zip of what there is now. Raises Refusal 406."""
    chosen_media_type(accept, (ZIP,))
    headers = STREAMED | {"Content-Disposition": f'attachment; filename="{batch.id}.zip"'}
    return StreamingResponse(FILES.each(_zipped(batch.id, ledger, artifacts)), media_type=ZIP, headers=headers)


def _zipped(batch_id: str, ledger: Ledger, artifacts: ArtifactStore) -> Iterator[bytes]:
    """Every item is in `manifest.jsonl`, a line a sample, or in `failed.jsonl`; both come last."""
    with ZipStream() as archive, spool() as manifest, spool() as failed:
        for item, patient in _items(batch_id, ledger):
            names = _files(item, artifacts)
            if not names:
                _write_line(failed, without_result(item))
                continue
            reports = {}
            for name in names:
                sample, _, rest = name.partition("/")
                key = f"{item.result_key}{name}"
                if rest == "report.json":
                    content = artifacts.get(key)
                    reports[sample] = json.loads(content)
                    yield from archive.entry(item_folder(item.index) + name, [content])
                else:
                    yield from archive.entry(item_folder(item.index) + name, artifacts.stream(key))
            for line in sample_lines(item, names, reports, patient):
                _write_line(manifest, line)
        yield from archive.entry("manifest.jsonl", spooled(manifest))
        yield from archive.entry("failed.jsonl", spooled(failed))
        yield from archive.end()


def _items(batch_id: str, ledger: Ledger) -> Iterator[tuple[BatchItem, str | None]]:
    """The items in their order, and whose the source of each is; some at a time, in no transaction while they are sent."""
    after = -1
    while items := ledger.batch_items(batch_id, after=after, limit=ITEMS_AT_ONCE):
        patients = ledger.source_patients(items)
        for item in items:
            yield item, patients.get(item.job_id)
        after = items[-1].index


def _files(item: BatchItem, artifacts: ArtifactStore) -> list[str]:
    """The names of an item's files, below its result; none where it has none, or where they were deleted since."""
    if item.state != JobState.SUCCEEDED or item.result_key is None:
        return []
    return [artifact.key.removeprefix(item.result_key) for artifact in artifacts.list(item.result_key)]


def _write_line(file: IO[bytes], line: dict[str, Any]) -> None:
    file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
