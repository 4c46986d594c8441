"""Forgetting jobs and series: nothing that names a patient is left to be found."""

from pathlib import Path

import pytest
from sqlalchemy import text

from spinepaint.store import (
    Job,
    JobActive,
    JobState,
    Ledger,
    Series,
    SeriesHasResults,
    SeriesInUse,
    UnknownJob,
    by_series,
    result_prefix,
)
from spinepaint.store.database import utc_now
from tests.store.discards import due_discards
from tests.store.test_dicom import instance

NAME = "Forgettable^Patient"
REPORT = {"source": {"study_uid": "1.2"}}


def finish(ledger: Ledger, series: Series, uid: str = "1.2.9") -> Job:
    """A job of the series that has delivered a result which names the patient."""
    job = ledger.submit_job(series.id, {"series_uid": "1.2.1"}, f"key {uid}", "print", destination="web")
    claim = ledger.claim(job.id, "w")
    assert claim is not None
    dicom = by_series([instance(1, uid, PatientName=NAME), instance(2, uid, PatientName=NAME)])
    assert ledger.succeed(job.id, claim.token, REPORT, result_prefix(job.id, claim.token), dicom)
    return job


def rows(ledger: Ledger) -> dict[str, int]:
    tables = ("series", "jobs", "events", "outbox", "deliveries", "dicom_series", "dicom_instances", "dicom_deliveries")
    with ledger.read() as session:
        return {table: session.scalar(text(f"SELECT count(*) FROM {table}")) or 0 for table in tables}


def test_a_deleted_job_takes_everything_of_it_along(ledger: Ledger, series: Series) -> None:
    job = finish(ledger, series)
    other = finish(ledger, series, "1.2.8")
    ledger.delete_job(job.id)
    assert ledger.get_job(job.id) is None
    assert ledger.locate("1.2", "1.2.9") == []
    assert len(ledger.locate("1.2", "1.2.8")) == 2
    assert due_discards(ledger, utc_now()) == [f"results/{job.id}/"]
    assert ledger.submit_job(series.id, {}, "key 1.2.9", "another").id != job.id  # the key is forgotten too
    assert ledger.get_job(other.id) is not None
    with pytest.raises(UnknownJob):
        ledger.delete_job(job.id)


def test_no_row_is_left_of_what_is_deleted(ledger: Ledger, series: Series) -> None:
    finish(ledger, series)
    ledger.delete_series(series.id, results="delete")
    assert set(rows(ledger).values()) == {0}


def test_a_job_is_kept_while_it_waits_or_runs(ledger: Ledger, series: Series) -> None:
    job = ledger.submit_job(series.id, {})
    with pytest.raises(JobActive):
        ledger.delete_job(job.id)
    claim = ledger.claim(job.id, "w")
    with pytest.raises(JobActive):
        ledger.delete_job(job.id)
    assert claim is not None
    ledger.cancel(job.id)
    ledger.delete_job(job.id)
    # The cancelled attempt may still be writing, and finds out that it lost the job.
    assert not ledger.heartbeat(job.id, claim.token)
    assert not ledger.succeed(job.id, claim.token, {}, "results/x/y/", by_series([instance(1)]))
    assert not ledger.holds(job.id, claim.token)
    assert set(due_discards(ledger, utc_now() + 2 * ledger.attempt_limit)) == {
        f"results/{job.id}/",
        result_prefix(job.id, claim.token),
    }
    assert rows(ledger)["dicom_series"] == 0


def test_another_tenants_job_is_as_if_absent(ledger: Ledger) -> None:
    series = ledger.add_series(sha256="0", geometry={}, warnings=[], artifact_key="sources/x/", tenant="a")
    job = ledger.submit_job(series.id, {}, tenant="a")
    ledger.cancel(job.id)
    with pytest.raises(UnknownJob):
        ledger.delete_job(job.id, tenant="b")
    assert ledger.get_job(job.id) is not None


def test_a_series_with_results_asks_what_is_to_become_of_them(ledger: Ledger, series: Series) -> None:
    job = finish(ledger, series)
    with pytest.raises(SeriesHasResults) as refused:
        ledger.delete_series(series.id)
    assert refused.value.jobs == [job.id]
    assert due_discards(ledger, utc_now()) == []
    ledger.delete_series(series.id, results="keep")
    kept = ledger.get_job(job.id)
    assert kept is not None
    assert (kept.state, kept.report, kept.series_id) == (JobState.SUCCEEDED, REPORT, None)
    assert len(ledger.locate("1.2", "1.2.9")) == 2


def test_a_series_goes_with_all_that_was_made_of_it(ledger: Ledger, series: Series) -> None:
    jobs = [finish(ledger, series).id, finish(ledger, series, "1.2.8").id]
    waiting = ledger.submit_job(series.id, {})
    with pytest.raises(SeriesInUse) as refused:
        ledger.delete_series(series.id, results="delete")
    assert refused.value.jobs == [waiting.id]
    assert len(ledger.locate("1.2")) == 4
    ledger.cancel(waiting.id)
    ledger.delete_series(series.id, results="delete")
    assert ledger.locate("1.2") == []
    assert ledger.list_jobs().jobs == []
    prefixes = {"sources/a/", *(f"results/{job}/" for job in (*jobs, waiting.id))}
    assert set(due_discards(ledger, utc_now())) == prefixes


def test_a_sqlite_file_no_longer_has_the_name(ledger: Ledger, series: Series, database_url: str) -> None:
    folder = Path(database_url.removeprefix("sqlite:///")).parent
    if not database_url.startswith("sqlite"):
        pytest.skip("of PostgreSQL's files its vacuum takes care")
    job = finish(ledger, series)

    def said() -> bool:
        content = b"".join(path.read_bytes() for path in folder.glob("ledger.sqlite3*"))
        return NAME.encode() in content or NAME.casefold().encode() in content

    assert said()
    ledger.delete_job(job.id)
    assert not said()


def test_a_reader_keeps_no_deletion_from_being_done(ledger: Ledger, series: Series) -> None:
    job = finish(ledger, series)
    with ledger.read() as session:
        assert session.scalar(text("SELECT count(*) FROM jobs")) == 1
        ledger.delete_job(job.id)
    assert ledger.get_job(job.id) is None


def test_jobs_are_found_by_what_they_read_or_made(ledger: Ledger, series: Series) -> None:
    first, second = finish(ledger, series), finish(ledger, series, "1.2.8")
    ledger.submit_job(series.id, {})
    assert [job.id for job in ledger.list_jobs(series_uid="1.2.9").jobs] == [first.id]
    assert [job.id for job in ledger.list_jobs(series_uid="1.2.1").jobs] == [second.id, first.id]
    assert ledger.list_jobs(series_uid="1.2").jobs == []
