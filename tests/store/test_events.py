from spinepaint.store import Ledger, Series


def test_events_of_many_jobs_are_read_at_once(ledger: Ledger, series: Series) -> None:
    jobs = [ledger.submit_job(series.id, {}).id for _ in range(450)]
    claim = ledger.claim(jobs[7], "w")
    assert claim is not None
    ledger.progress(jobs[7], claim.token, "sample", 0.5)
    last = ledger.last_events([*jobs, "absent"])
    assert set(last) == set(jobs)
    assert (last[jobs[7]], last[jobs[8]]) == (3, 1)
    found = ledger.events_since(dict.fromkeys(jobs, 1) | {"absent": 0})
    assert [(event.job_id, event.seq, event.type) for event in found] == [(jobs[7], 2, "state"), (jobs[7], 3, "progress")]
    assert len(ledger.events_since(dict.fromkeys(jobs, 0))) == 452
    assert ledger.events_since({}) == []
