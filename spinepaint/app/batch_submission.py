"""From the items that were asked for to a batch in the ledger: all of them, or a refusal that names those in the way."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from spinepaint.app.batch_request import BatchLine, Faults
from spinepaint.app.schemas import EditSpec
from spinepaint.app.submission import require_allowed, resolved_spec
from spinepaint.imaging.errors import Refusal
from spinepaint.settings import Settings
from spinepaint.store.errors import UnknownSeries
from spinepaint.store.jobs import JobOrder
from spinepaint.store.ledger import Ledger
from spinepaint.store.models import Batch, Series
from spinepaint.store.priorities import Priority

_DRAWN = frozenset({"pathology", "fsu", "severity", "method", "solver", "steps", "landmark_lps_mm", "sigma_mm"})
"""What of a spec says which edit it is: of two items that are the same in this the second has another seed."""


def submit_batch(ledger: Ledger, settings: Settings, asked: Sequence[BatchLine], key: str | None) -> Batch:
    """Queue a job for each item; with an idempotency key, the first batch of the same content and specs.

    Raises ItemsRefused, naming each item whose series is unknown or whose spec does not suit it; LedgerError.
    """
    orders, identity = _orders(ledger, settings, asked)
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    options: dict[str, Any] = {"max_attempts": settings.max_attempts, "queue_cap": settings.max_queued_jobs}
    try:
        return ledger.submit_batch(orders, key, fingerprint if key else None, **options)
    except UnknownSeries:
        _orders(ledger, settings, asked)  # one was deleted at this moment: this names the items
        raise


def _orders(ledger: Ledger, settings: Settings, asked: Sequence[BatchLine]) -> tuple[list[JobOrder], list[Any]]:
    """An order for each item, and what tells one batch from another."""
    series = ledger.find_series(sorted({str(item.series_id) for item in asked}))
    _require_fitting(settings, asked, series)
    seen: Counter[str] = Counter()
    orders, identity = [], []
    for item in asked:
        source = series[str(item.series_id)]
        spec = _with_seed(item.spec, source, seen)
        resolved = resolved_spec(settings, source, spec)
        orders.append(JobOrder(source.id, resolved, spec.callback_url, spec.destination, spec.priority))
        urgent = [] if spec.priority is Priority.NORMAL else [{"priority": spec.priority}]
        identity.append([source.sha256, spec.as_spec(), spec.destination, spec.callback_url, *urgent])
    return orders, identity


def _require_fitting(settings: Settings, asked: Sequence[BatchLine], series: Mapping[str, Series]) -> None:
    faults = Faults()
    for index, item in enumerate(asked):
        source = series.get(str(item.series_id))
        if source is None:
            faults.add(index, "series_id", "unknown-series", "There is no such series.")
            continue
        try:
            require_allowed(settings, source, item.spec)
        except Refusal as refusal:
            faults.add(index, "spec", refusal.type, str(refusal))
    faults.end()


def _with_seed(spec: EditSpec, source: Series, seen: Counter[str]) -> EditSpec:
    """The spec with its own seed, or else one that follows from the series' content and the edit, whatever else is in the batch.

    An edit that a batch asks of a series for the second time has another seed: `seen` counts them.
    """
    if "seed" in spec.model_fields_set:
        return spec
    edit = {name: value for name, value in spec.as_spec().items() if name in _DRAWN}
    identity = json.dumps([source.sha256, edit], sort_keys=True)
    seen[identity] += 1
    digest = hashlib.sha256(f"spinepaint batch item {identity} {seen[identity]}".encode()).digest()
    return spec.model_copy(update={"seed": int.from_bytes(digest[:4], "big")})
