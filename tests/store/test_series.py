from datetime import timedelta

import pytest

from spinepaint.store import Ledger, Series, SeriesInUse, UnknownSeries, new_id, source_prefix
from spinepaint.store.database import utc_now
from tests.store.discards import due_discards


def test_a_series_is_found_again_as_it_was(ledger: Ledger) -> None:
    series_id = new_id()
    ledger.add_series(
        sha256="ab", geometry={"shape": [1, 2, 3]}, warnings=["thick"], artifact_key=source_prefix(series_id), series_id=series_id
    )
    kept = ledger.get_series(series_id)
    assert kept is not None
    assert (kept.geometry, kept.warnings, kept.artifact_key) == ({"shape": [1, 2, 3]}, ["thick"], f"sources/{series_id}/")
    assert ledger.get_series("no-such-series") is None


def test_series_are_listed_newest_first_for_their_tenant(ledger: Ledger) -> None:
    ids = [
        ledger.add_series(sha256="0", geometry={}, warnings=[], artifact_key="k", tenant=tenant).id for tenant in ("a", "b", "a")
    ]
    assert [series.id for series in ledger.list_series("a")] == [ids[2], ids[0]]
    assert len(ledger.list_series()) == 3


def test_a_series_is_kept_while_a_job_reads_it(ledger: Ledger, series: Series) -> None:
    job = ledger.submit_job(series.id, {})
    with pytest.raises(SeriesInUse):
        ledger.delete_series(series.id)
    ledger.claim(job.id, "w")
    with pytest.raises(SeriesInUse):
        ledger.delete_series(series.id)
    assert ledger.get_series(series.id) is not None


def test_a_deleted_series_leaves_its_finished_jobs_and_owes_the_deletion_of_its_files(ledger: Ledger, series: Series) -> None:
    job = ledger.submit_job(series.id, {})
    ledger.cancel(job.id)
    ledger.delete_series(series.id)
    assert ledger.get_series(series.id) is None
    kept = ledger.get_job(job.id)
    assert kept is not None
    assert (kept.state, kept.series_id) == ("cancelled", None)
    assert due_discards(ledger, utc_now()) == ["sources/a/"]
    with pytest.raises(UnknownSeries):
        ledger.delete_series(series.id)


def store(ledger: Ledger, limit: timedelta) -> str:
    """The prefix of a series whose files a gateway has begun to store."""
    prefix = source_prefix(new_id())
    ledger.begin_storing(prefix, limit)
    return prefix


def enter(ledger: Ledger, prefix: str, limit: timedelta) -> Series:
    series_id = prefix.split("/")[1]
    return ledger.add_series(sha256="0", geometry={}, warnings=[], artifact_key=prefix, series_id=series_id, storing_limit=limit)


def test_files_that_no_series_came_to_name_are_deleted_once_nobody_can_name_them_any_more(ledger: Ledger) -> None:
    hour = timedelta(hours=1)
    left, named = store(ledger, hour), store(ledger, hour)
    enter(ledger, named, hour)
    assert due_discards(ledger, utc_now() + hour) == []
    assert due_discards(ledger, utc_now() + 2 * hour) == [left]


def test_what_took_too_long_to_store_is_no_series(ledger: Ledger) -> None:
    at_once = timedelta(0)
    prefix = store(ledger, at_once)
    with pytest.raises(TimeoutError):
        enter(ledger, prefix, at_once)
    assert ledger.list_series() == []
    assert due_discards(ledger, utc_now()) == [prefix]
