"""Holds what was found against what is promised."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx

from tests.chaos import evidence
from tests.chaos.callers import Asked
from tests.chaos.evidence import Row
from tests.chaos.faults import Done
from tests.chaos.receivers import Receivers
from tests.chaos.servers import PATIENCE_S, until
from tests.chaos.site import ATTEMPT_LIMIT_S, Site
from tests.chaos.standin import fate, output_uid

SENDER_DIED = ("worker machine lost", "worker frozen")
"""What may keep a sender from recording that it was answered: the one reason to send something again."""
NEAR_S = 15.0
PATIENCE_JOB_S = 5.0
"""How much longer is waited for each job: a busy machine may have run few of them by the time when nothing fails any more."""


@dataclass
class Verdict:
    """What the promises were broken by, and the numbers of the table."""

    broken: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    numbers: dict[str, int] = field(default_factory=dict)

    def check(self, fine: bool, otherwise: str) -> None:
        if not fine:
            self.broken.append(otherwise)


def judge(site: Site, wishes: Sequence[Asked], done: Sequence[Done], seed: int, tell: Callable[[str], None]) -> Verdict:
    """Wait until nothing more happens, look at all of it, delete all of it, and look again."""
    verdict = Verdict(numbers={"asked for": len(wishes)})
    _settled(site, verdict)
    rows = {row.seed: row for row in evidence.job_rows(site.postgres)}
    verdict.numbers["rows"] = len(evidence.job_rows(site.postgres))
    tell(f"settled: {len(rows)} jobs")
    _judge_jobs(site, {wish.seed: wish for wish in wishes}, rows, verdict)
    _judge_results(site, {wish.seed: wish for wish in wishes}, rows, seed, verdict)
    judge_webhooks(site.receivers, wishes, rows, done, verdict)
    _judge_deliveries(site, wishes, rows, done, verdict)
    tell("looked at every job")
    _judge_bucket(site, verdict)
    tell("deleted everything")
    _judge_folders(site, verdict)
    return verdict


def _settled(site: Site, verdict: Verdict) -> None:
    patience_s = PATIENCE_S + PATIENCE_JOB_S * verdict.numbers["asked for"]
    try:
        until(lambda: not evidence.unsettled(site.postgres), "all jobs ended, all debts paid", patience_s)
    except TimeoutError as late:
        verdict.broken.append(f"{late}: {evidence.unsettled(site.postgres)}")


def _judge_jobs(site: Site, wishes: Mapping[int, Asked], rows: Mapping[int, Row], verdict: Verdict) -> None:
    verdict.check(len(rows) == verdict.numbers["rows"], "a job was entered twice")
    ends = evidence.ends_of_jobs(site.postgres)
    for wish in wishes.values():
        verdict.check(wish.refused is None, f"job {wish.seed} was refused: {wish.refused}")
        row = rows.get(wish.seed)
        if wish.job_id is not None and (row is None or row.id != wish.job_id):
            verdict.broken.append(f"job {wish.seed} was accepted as {wish.job_id}, and is not there under that id")
    for seed, row in rows.items():
        wish = wishes[seed]
        verdict.states[row.state] += 1
        verdict.attempts[row.attempts] += 1
        verdict.check(row.key == wish.key, f"job {seed} has another's key")
        verdict.check(ends[row.id] == [(row.state, True)], f"job {seed} is {row.state} and ended as {ends[row.id]}")
        if (wrong := wrong_end(row, wish)) is not None:
            verdict.broken.append(f"job {seed} {wrong}")
        if row.problem is not None:
            verdict.failures[row.problem["type"].rpartition("/")[2]] += 1
    starts = Counter(int(line) for line in site.diary.read_text().splitlines())
    verdict.check(set(starts) <= set(rows), "a pipeline was started for a job that is not there")
    verdict.numbers |= {
        "accepted (202 seen)": sum(wish.job_id is not None for wish in wishes.values()),
        "answers lost": sum(wish.lost for wish in wishes.values()),
        "answer lost and left at that, job there all the same": sum(wishes[seed].job_id is None for seed in rows),
        "starts of the pipeline": sum(starts.values()),
        "repeated starts": sum(count - 1 for count in starts.values()),
    }


def wrong_end(row: Row, wish: Asked) -> str | None:
    """What is wrong with the state that a job ended in."""
    slug = (row.problem or {}).get("type", "").rpartition("/")[2]
    match row.state:
        case "cancelled":
            return None if wish.cancels else "was cancelled, which nobody asked for"
        case "succeeded":
            return f"succeeded, but had to end with {fate(wish.seed)}" if fate(wish.seed) or wish.cancelled else None
        case "failed":
            if not slug or not (row.problem or {}).get("title") or not (row.problem or {}).get("detail"):
                return f"failed without a reason: {row.problem}"
            return "failed although it was cancelled" if wish.cancelled else None
    return f"is {row.state} for ever"


def _judge_results(site: Site, wishes: Mapping[int, Asked], rows: Mapping[int, Row], seed: int, verdict: Verdict) -> None:
    chance = random.Random(seed)
    asked = [(chance.choice(site.gateways).url, row) for row in rows.values() if row.state == "succeeded"]
    with httpx.Client(timeout=PATIENCE_S, trust_env=False) as client, ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda one: (one[1], evidence.wrong_result(client, *one, wishes[one[1].seed])), asked)
        for row, wrong in found:
            verdict.check(wrong is None, f"job {row.seed}: {wrong}")


def _explained(at: float, done: Sequence[Done]) -> bool:
    """Whether a sender may have died between an answer at that time and its record."""
    near = [one for one in done if one.fault.kind in SENDER_DIED and one.began - NEAR_S < at < one.ended + NEAR_S]
    return bool(near)


def judge_webhooks(
    receivers: Receivers, wishes: Sequence[Asked], rows: Mapping[int, Row], done: Sequence[Done], verdict: Verdict
) -> None:
    again = 0
    for wish in wishes:
        row = rows.get(wish.seed)
        told = [one for one in receivers.told if one.seed == wish.seed]
        taken = [one for one in told if one.status == 200]
        if row is None or not wish.callback:
            verdict.check(not told, f"a webhook of job {wish.seed}, which wanted none")
            continue
        verdict.check(bool(taken), f"job {wish.seed}: its caller was not told")
        verdict.check(len({one.message_id for one in told}) <= 1, f"job {wish.seed}: several webhook-ids")
        right = all((one.job_id, one.kind) == (row.id, f"job.{row.state}") for one in told)
        verdict.check(right, f"job {wish.seed}: its caller was told of another job or of another end")
        again += max(0, len(taken) - 1)
        for one in taken[:-1]:
            verdict.check(_explained(one.at, done), f"job {wish.seed}: told {len(taken)} times, and no sender had died")
    verdict.numbers["webhooks taken"] = sum(one.status == 200 for one in receivers.told)
    verdict.numbers["webhooks sent again after a 2xx"] = again


def _judge_deliveries(
    site: Site, wishes: Sequence[Asked], rows: Mapping[int, Row], done: Sequence[Done], verdict: Verdict
) -> None:
    again, sent = 0, {one.instances for one in site.receivers.stored}
    for wish in wishes:
        row = rows.get(wish.seed)
        count = len(wish.source.files)
        wanted = frozenset(output_uid(wish.source.sha256, wish.seed, index) for index in range(count))
        stored = [one for one in site.receivers.stored if one.instances == wanted and one.status == 200]
        sent -= {wanted}
        if row is None or not wish.delivery or row.state != "succeeded":
            verdict.check(not stored, f"job {wish.seed} was delivered, and was not to be")
            continue
        verdict.check(bool(stored), f"job {wish.seed} was not delivered")
        again += max(0, len(stored) - 1)
        for one in stored[:-1]:
            verdict.check(_explained(one.at, done), f"job {wish.seed}: delivered {len(stored)} times, and no sender had died")
    verdict.check(not sent, f"{len(sent)} deliveries that are of no job, or not whole")
    verdict.numbers["deliveries taken"] = sum(one.status == 200 for one in site.receivers.stored)
    verdict.numbers["deliveries repeated after a success"] = again


def _judge_bucket(site: Site, verdict: Verdict) -> None:
    """Before and after everything is deleted; what is due for deletion is waited for."""
    nothing_due = f"deletions that are due at the latest {ATTEMPT_LIMIT_S:.0f} s after their attempt"
    _await(lambda: not evidence.discards(site.postgres), nothing_due, verdict)
    named = tuple(evidence.named_prefixes(site.postgres))
    orphans = [key for key in site.objects.listing() if not key.startswith(named)]
    verdict.numbers["files in the bucket that nothing names"] = len(orphans)
    verdict.numbers["uploaded series of which no job was made, the gateway having died in between"] = evidence.lone_series(
        site.postgres
    )
    verdict.check(not orphans, f"{len(orphans)} files in the bucket that nothing names, such as {orphans[:3]}")
    with httpx.Client(timeout=PATIENCE_S, trust_env=False) as client:
        verdict.broken += evidence.purge(client, [gateway.url for gateway in site.gateways], site.postgres)
    _await(lambda: not evidence.discards(site.postgres), nothing_due, verdict)
    verdict.check(not (left := evidence.rows_left(site.postgres)), f"rows left in the database: {left}")
    keys = site.objects.listing()
    verdict.numbers["files in the bucket after all was deleted"] = len(keys)
    verdict.check(not keys, f"{len(keys)} files left in the bucket, such as {keys[:3]}")


def _await(condition: Callable[[], bool], what: str, verdict: Verdict) -> None:
    try:
        until(condition, what)
    except TimeoutError as late:
        verdict.broken.append(str(late))


def _judge_folders(site: Site, verdict: Verdict) -> None:
    for member in site.members:
        status = member.stop()
        verdict.check(status == 0, f"{member.name} ended with {status} when it was asked to")
    left = [f"{member.name}/{path}" for member in site.members for path in member.leftovers()]
    verdict.numbers["temporary files left"] = len(left)
    verdict.check(not left, f"{len(left)} temporary files left, such as {left[:3]}")
