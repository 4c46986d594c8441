"""What a batch is asked for by: every series with every spec, or one item a line; all of it fits, or it is refused."""

from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from spinepaint.app.admission import Busy
from spinepaint.app.arriving import Patience, arriving, declared_bytes, patience_of, require_uncompressed
from spinepaint.app.held import Held, HeldBody
from spinepaint.app.schemas import EditSpec
from spinepaint.app.threads import PARSING
from spinepaint.app.uploads import drain
from spinepaint.imaging.errors import Refusal
from spinepaint.settings import Settings

JSON, JSON_LINES = "application/json", "application/jsonl"
_LINES = (JSON_LINES, "application/x-ndjson", "application/x-jsonlines")
_VALUES, _VALUES_OF_AN_ITEM = 10_000, 64
"""What the JSON of a batch may have of values: more than twice what items have that say everything."""
MAX_NAMED = 200
"""Items that one refusal names."""


class BatchRequest(BaseModel):
    """Every series with every spec: series by series, each with all specs in their order."""

    model_config = ConfigDict(extra="forbid")

    series_ids: list[UUID] = Field(min_length=1)
    specs: list[EditSpec] = Field(min_length=1)


class BatchLine(BaseModel):
    """One item of a batch that comes as JSON lines."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    series_id: UUID
    spec: EditSpec


_SERIES, _SPEC, _LINE = TypeAdapter(UUID), TypeAdapter(EditSpec), TypeAdapter(BatchLine)


@dataclass
class ItemsRefused(Refusal):
    """Items of a batch that cannot be taken, and so none of it is: `items` has index, at, type and reason of each."""

    items: list[dict[str, Any]] = field(default_factory=list)

    def as_problem(self) -> dict[str, Any]:
        """RFC 9457 problem document."""
        return super().as_problem() | {"items": self.items}


class Faults:
    """What is wrong with items, collected so that one answer names them all, up to a number of them."""

    def __init__(self) -> None:
        self._items: list[dict[str, Any]] = []

    def add(self, index: int, at: str, kind: str, reason: str) -> None:
        """An item that cannot be taken: where in it, why as a slug, and why in words."""
        self._items.append({"index": index, "at": at, "type": kind, "reason": reason})
        if len(self._items) >= MAX_NAMED:
            self.end()

    def add_invalid(self, index: int, at: str, error: ValidationError) -> None:
        """An item that does not fit the schema; the value that was sent is not repeated, it may name a patient."""
        for found in error.errors(include_url=False, include_input=False, include_context=False):
            where = "/".join(part for part in (at, *map(str, found["loc"])) if part)
            self.add(index, where, "invalid-request", found["msg"])

    def end(self) -> None:
        """Raise ItemsRefused where there was anything."""
        if not self._items:
            return
        first = "; ".join(f"item {item['index']}, {item['at']}: {item['reason']}" for item in self._items[:5])
        raise ItemsRefused("refused-items", "Items of the batch cannot be taken, so none was.", first, items=self._items)


async def asked_for(request: Request, settings: Settings) -> list[BatchLine]:
    """The items of a request, in order, none of them looked up yet.

    Raises Refusal: 413 over a cap, 415 for another content type, 400 for what is not JSON, 408 when it arrives too
    slowly, 429 while too much of others is held; ItemsRefused 422 for what does not fit the schema.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    require_uncompressed(request)
    if kind != JSON and kind not in _LINES:
        raise Refusal("unsupported-media-type", f"Send {JSON} or {JSON_LINES}.", "Say so in Content-Type.", status=415)
    batches: Held = request.app.state.batches_held
    with batches.body(request.state.caller.tenant) as held:
        body = await _received(request, settings.max_batch_bytes, patience_of(settings), held)
        return await PARSING.run(_from_lines if kind in _LINES else _from_product, body, settings)


async def _received(request: Request, cap: int, patience: Patience, held: HeldBody) -> bytes:
    body = bytearray()
    try:
        _enforce("max_batch_bytes", cap, declared_bytes(request))
        async for chunk in arriving(request, patience):
            held.grow(len(chunk))
            body += chunk
            _enforce("max_batch_bytes", cap, len(body))
        return bytes(body)
    except ClientDisconnect:
        raise Refusal("malformed-upload", "The body ends too early.", status=400) from None
    except Busy:  # whose answer does not wait for the rest of the body
        raise
    except Refusal:
        await drain(request)
        raise


def _enforce(name: str, cap: int, amount: int) -> None:
    if amount > cap:
        detail = f"{name} is {cap} here and this has {amount}. Send it in parts, or ask for a higher {name}."
        raise Refusal("over-cap-" + name.replace("_", "-"), f"The batch is over the cap {name}.", detail, status=413)


def _enforce_items(settings: Settings, items: int) -> None:
    _enforce("max_batch_jobs", settings.max_batch_jobs, items)
    # What the queue can never hold need not be tried again later.
    _enforce("max_queued_jobs", settings.max_queued_jobs, items)


def _enforce_values(settings: Settings, body: bytes) -> None:
    """Refuse what would be very many values, before any of them is made: 3 bytes may be a dictionary.

    All but the first of a list are after a comma. Those in strings are counted too; there is more room than items need.
    """
    values = sum(map(body.count, (b",", b"[", b"{")))
    if values > _VALUES + _VALUES_OF_AN_ITEM * settings.max_batch_jobs:
        detail = f"max_batch_jobs is {settings.max_batch_jobs} here, and this has {values} values. Send it in parts."
        raise Refusal("over-cap-max-batch-jobs", "The batch is over the cap max_batch_jobs.", detail, status=413)


def _from_product(body: bytes, settings: Settings) -> list[BatchLine]:
    _enforce_values(settings, body)
    series_ids, specs = _two_lists(body)
    _enforce_items(settings, len(series_ids) * len(specs))
    faults = Faults()
    known_series = [_checked(_SERIES, each, n * len(specs), f"series_ids/{n}", faults) for n, each in enumerate(series_ids)]
    known_specs = [_checked(_SPEC, each, n, f"specs/{n}", faults) for n, each in enumerate(specs)]
    faults.end()
    return [BatchLine(series_id=series_id, spec=spec) for series_id in known_series for spec in known_specs]


def _two_lists(body: bytes) -> tuple[list[Any], list[Any]]:
    """The two lists of a BatchRequest, before anything in them is looked at: they may be long."""
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError:
        raise Refusal("malformed-json", "The body is not valid JSON.", status=400) from None
    names = ("series_ids", "specs")
    fits = isinstance(value, dict) and set(value) == set(names)
    if not fits or not all(isinstance(value[name], list) and value[name] for name in names):
        detail = 'It is {"series_ids": [one or more ids], "specs": [one or more specs]}.'
        raise Refusal("invalid-request", "The request does not fit the schema.", detail)
    return value["series_ids"], value["specs"]


def _checked(adapter: TypeAdapter[Any], value: Any, index: int, at: str, faults: Faults) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        faults.add_invalid(index, at, error)


def _from_lines(body: bytes, settings: Settings) -> list[BatchLine]:
    items_there = sum(1 for line in BytesIO(body) if line.strip())
    if not items_there:
        raise Refusal("invalid-request", "The batch has no items.", 'A line is {"series_id": …, "spec": {…}}.')
    _enforce_items(settings, items_there)
    _enforce_values(settings, body)
    faults = Faults()
    items: list[Any] = []
    numbered = ((number, line) for number, line in enumerate(BytesIO(body), start=1) if line.strip())
    for index, (number, line) in enumerate(numbered):
        items.append(_checked(_LINE, _parsed(line, index, number), index, f"line {number}", faults))
    faults.end()
    return items


def _parsed(line: bytes, index: int, number: int) -> Any:
    try:
        return from_json(line, allow_inf_nan=False)
    except ValueError:
        item = {"index": index, "at": f"line {number}", "type": "malformed-json", "reason": "not valid JSON"}
        title = f"Line {number} is not valid JSON."
        raise ItemsRefused("malformed-json", title, "Each line is one item.", status=400, items=[item]) from None
