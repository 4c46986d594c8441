from datetime import timedelta

import pytest

from spinepaint.store import Ledger, Series, result_prefix
from spinepaint.store.database import utc_now
from spinepaint.store.errors import StoringTimeout
from tests.store.discards import due_discards

MINUTE = timedelta(minutes=1)


def announce_all(ledger: Ledger) -> list[str]:
    pending = ledger.pending_announcements()
    ledger.mark_announced([announcement.id for announcement in pending])
    return [announcement.job_id for announcement in pending]


def test_a_message_is_owed_until_it_is_marked(ledger: Ledger, series: Series) -> None:
    job = ledger.submit_job(series.id, {})
    assert len(ledger.pending_announcements()) == 1
    assert announce_all(ledger) == [job.id]
    assert ledger.pending_announcements() == []


def test_a_job_is_announced_again_when_nothing_was_heard_since(ledger: Ledger, series: Series) -> None:
    job = ledger.submit_job(series.id, {})
    announce_all(ledger)
    assert ledger.reannounce(utc_now(), MINUTE, limit=10) == []
    later = utc_now() + 2 * MINUTE
    assert ledger.reannounce(later, MINUTE, limit=10) == [job.id]
    assert ledger.reannounce(later, MINUTE, limit=10) == []
    assert [a.job_id for a in ledger.pending_announcements(later)] == [job.id]


def test_a_message_that_is_still_owed_is_not_doubled(ledger: Ledger, series: Series) -> None:
    ledger.submit_job(series.id, {})
    assert ledger.reannounce(utc_now() + 2 * MINUTE, MINUTE, limit=10) == []


def test_only_waiting_jobs_are_announced_again_oldest_first_up_to_the_limit(ledger: Ledger, series: Series) -> None:
    running, cancelled, *waiting = (ledger.submit_job(series.id, {}).id for _ in range(5))
    announce_all(ledger)
    ledger.claim(running, "w")
    ledger.cancel(cancelled)
    assert ledger.reannounce(utc_now() + 2 * MINUTE, MINUTE, limit=2) == waiting[:2]


def test_a_discard_is_owed_until_it_is_marked(ledger: Ledger, series: Series) -> None:
    ledger.delete_series(series.id)
    now = utc_now()
    assert due_discards(ledger, now) == ["sources/a/"]
    ledger.mark_discarded("sources/a/")
    assert due_discards(ledger, now) == []


def test_what_a_cancelled_attempt_stored_is_due_for_deletion_in_time(ledger: Ledger, series: Series) -> None:
    job = ledger.submit_job(series.id, {})
    claim = ledger.claim(job.id, "w")
    assert claim is not None
    ledger.cancel(job.id)
    assert due_discards(ledger, utc_now()) == []
    assert due_discards(ledger, utc_now() + 61 * MINUTE) == [result_prefix(job.id, claim.token)]


def test_what_one_deletes_no_other_is_given_until_its_time_is_over(ledger: Ledger) -> None:
    now = utc_now()
    for number in range(5):
        series = ledger.add_series(sha256=str(number), geometry={}, warnings=[], artifact_key=f"sources/{number}/")
        ledger.delete_series(series.id)
    later = now + MINUTE
    first = ledger.take_discards(later, MINUTE, limit=3)
    second = ledger.take_discards(later, MINUTE, limit=3)
    assert (len(first), len(second)) == (3, 2)
    assert sorted(first + second) == [f"sources/{number}/" for number in range(5)]
    assert ledger.take_discards(later, MINUTE) == []
    ledger.mark_discarded(first[0])
    assert sorted(ledger.take_discards(later + MINUTE, MINUTE)) == sorted(set(first + second) - {first[0]})


def test_what_is_being_deleted_is_named_by_no_series_however_long_it_takes(ledger: Ledger) -> None:
    prefix, at_once = "sources/slow/", timedelta(0)
    ledger.begin_storing(prefix, at_once)
    assert ledger.take_discards(utc_now(), 60 * MINUTE) == [prefix]
    with pytest.raises(StoringTimeout):
        ledger.add_series(sha256="0", geometry={}, warnings=[], artifact_key=prefix, series_id="slow", storing_limit=at_once)
    assert ledger.list_series() == []


def test_what_cannot_be_deleted_is_tried_again_after_what_was_never_tried(ledger: Ledger) -> None:
    now = utc_now()
    for number in range(4):
        ledger.begin_storing(f"sources/{number}/", timedelta(seconds=number - 10))
    assert ledger.take_discards(now, MINUTE, limit=2) == ["sources/0/", "sources/1/"]
    assert ledger.take_discards(now + 2 * MINUTE, MINUTE, limit=2) == ["sources/2/", "sources/3/"]
    assert sorted(ledger.take_discards(now + 2 * MINUTE, MINUTE, limit=2)) == ["sources/0/", "sources/1/"]


def test_messages_that_were_sent_long_ago_are_forgotten_some_at_a_time(ledger: Ledger, series: Series) -> None:
    jobs = [ledger.submit_job(series.id, {}).id for _ in range(5)]
    announce_all(ledger)
    owed = ledger.submit_job(series.id, {}).id
    assert ledger.prune_announcements(utc_now() - MINUTE) == 0
    assert [ledger.prune_announcements(utc_now() + MINUTE, limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert [announcement.job_id for announcement in ledger.pending_announcements()] == [owed]
    later = utc_now() + 2 * MINUTE
    assert ledger.reannounce(later, MINUTE, limit=10) == jobs  # nothing is known of them any more
