"""What a run came to, for people."""

from collections.abc import Sequence
from statistics import median

from tests.chaos.callers import Asked
from tests.chaos.faults import Done, counted
from tests.chaos.verdict import Verdict
from tests.chaos.watch import Watch


def recovery_s(one: Done, wishes: Sequence[Asked], watch: Watch) -> float | None:
    """Seconds from the beginning of a fault until a job had succeeded that was asked for after it; None where none was."""
    ended = [watch.ended[wish.seed] for wish in wishes if wish.began >= one.began and wish.seed in watch.ended]
    return min(ended) - one.began if ended else None


def print_table(verdict: Verdict, wishes: Sequence[Asked], done: Sequence[Done], watch: Watch) -> None:
    """Faults by kind, then jobs, then what would not be there in a world that always works."""
    print(f"\n| {'fault':<22} | times | recovered after (median) | (longest) |\n| --- | --- | --- | --- |")
    for kind, ones in counted(done).items():
        took = [s for one in ones if (s := recovery_s(one, wishes, watch)) is not None]
        told = f"{median(took):.1f} s | {max(took):.1f} s" if took else "no job came after it | "
        print(f"| {kind:<22} | {len(ones):>5} | {told} |")
    print("\n| what | count |\n| --- | --- |")
    for what, count in _counts(verdict).items():
        print(f"| {what} | {count} |")
    print()


def _counts(verdict: Verdict) -> dict[str, int]:
    numbers = dict(verdict.numbers)
    numbers.pop("rows", None)
    states = {f"jobs that {_ended(state)}": count for state, count in sorted(verdict.states.items())}
    failures = {f"failed with `{slug}`": count for slug, count in verdict.failures.most_common()}
    attempts = {f"jobs with {number} attempt{'s' * (number != 1)}": count for number, count in sorted(verdict.attempts.items())}
    return states | failures | attempts | numbers


def _ended(state: str) -> str:
    return "were cancelled" if state == "cancelled" else state if state in ("succeeded", "failed") else f"stay {state}"
