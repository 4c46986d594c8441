"""Cursors and moments that no page ever gave: refused, or taken for what they say, by either database."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from spinepaint.store import Ledger, Series
from spinepaint.store.audit import AuditQuery
from spinepaint.store.cursors import decode_cursor, encode_cursor
from spinepaint.store.database import utc_now
from spinepaint.store.errors import BadCursor

EAST, WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-14))
BEFORE_ALL, AFTER_ALL = datetime(1, 1, 1, tzinfo=EAST), datetime(9999, 12, 31, 23, tzinfo=WEST)
"""Moments that are none in UTC."""


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest) -> Ledger:
    ledger: Ledger = request.getfixturevalue("ledger" if request.param == "sqlite" else "postgres")
    return ledger


def test_a_cursor_comes_back_as_it_was() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert decode_cursor(encode_cursor(at, "an-id")) == (at, "an-id")


def test_a_cursor_with_a_character_that_postgresql_takes_in_no_text_is_none(either: Ledger) -> None:
    forged = encode_cursor(utc_now(), "a\0b")
    for page in (either.list_jobs, either.list_batches):
        with pytest.raises(BadCursor):
            page(cursor=forged)


def test_moments_beyond_the_years_of_utc_come_before_and_after_all(either: Ledger) -> None:
    series: Series = either.add_series(sha256="0" * 64, geometry={}, warnings=[], artifact_key="sources/a/")
    job = either.submit_job(series.id, {})
    either.record_audit(tenant="", key_id=None, action="GET -", status=200)
    for at, jobs, entries in ((BEFORE_ALL, 0, 1), (AFTER_ALL, 1, 0)):
        page = either.list_jobs(cursor=encode_cursor(at, job.id))
        assert len(page.jobs) == jobs
        assert len(either.list_audit(AuditQuery(since=at))) == entries
