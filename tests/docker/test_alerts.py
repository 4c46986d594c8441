"""The alerts of docs/9-operation-signals.md and the runbook: each can fire, by the labels that the figures really have."""

import re
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client.core import Metric

from spinepaint.app.metrics import HttpMetrics, LedgerMetrics
from spinepaint.settings import Settings
from spinepaint.store.figures import Figures
from spinepaint.store.signal_models import Worker
from spinepaint.store.tallies import FAILURES
from spinepaint.worker import problems
from tests.docker.described import ROOT

SIGNALS = (ROOT / "docs" / "9-operation-signals.md").read_text()
RUNBOOK = (ROOT / "docs" / "10-runbook.md").read_text()
OF_A_TARGET = {"job", "instance"}
TOKEN = re.compile(r'\s*("[^"]*"|=~|!=|>=|<=|==|[A-Za-z_:][\w:]*|[\d.]+[smhd]?|[][(){},=<>*])')
Labels = frozenset[str]


class Told:
    """A ledger with something of everything."""

    def figures(self, _since: object) -> Figures:
        states, worker = {"queued": 1}, Worker(name="host:1:a", memory_bytes=1)
        return Figures(states, None, {"owed": 1}, {"pending": 1}, [worker], {(FAILURES, "internal-error", None): (1, 0.0)})


def exposed() -> dict[str, Labels]:
    """By a series' name the labels that Prometheus has of it."""
    http = HttpMetrics()
    http.observe("GET", "/v1/jobs", 500, 0.1)
    families: list[Metric] = [*LedgerMetrics(cast(Any, Told()), Settings()).collect(), *http.registry.collect()]
    found = {sample.name: frozenset(sample.labels) | OF_A_TARGET for family in families for sample in family.samples}
    return found | {"up": frozenset(OF_A_TARGET)}


class Expression:
    """The labels of an expression of PromQL, as sets that its series may have; None is a number.

    Raises AssertionError where two sides are matched that have other labels: nothing would ever come of them.
    """

    def __init__(self, text: str) -> None:
        self.words = TOKEN.findall(text)
        assert "".join(self.words) == re.sub(r"\s", "", text)
        self.series = exposed()

    def take(self, *wanted: str) -> str | None:
        """The next word, if it is one of these."""
        return self.words.pop(0) if self.words and self.words[0] in wanted else None

    def whole(self) -> set[Labels] | None:
        found = self.either()
        assert not self.words
        return found

    def either(self) -> set[Labels] | None:
        found = self.both()
        while self.take("or"):
            found = (found or set()) | (self.both() or set())
        return found

    def both(self) -> set[Labels] | None:
        found = self.compared()
        while self.take("and", "unless"):
            found = self.matched(found, ignored=self.names() if self.take("ignoring") else set(), right=self.compared())
        return found

    def compared(self) -> set[Labels] | None:
        found = self.product()
        while self.take("==", ">", "<"):
            found = self.matched(found, ignored=set(), right=self.product())
        return found

    def product(self) -> set[Labels] | None:
        found = self.unit()
        while self.take("*"):
            found = self.matched(found, ignored=set(), right=self.unit())
        return found

    def matched(self, left: set[Labels] | None, *, ignored: set[str], right: set[Labels] | None) -> set[Labels] | None:
        if left is None or right is None:
            return left or right
        assert {one - ignored for one in left} == {one - ignored for one in right}
        return left

    def names(self) -> set[str]:
        assert self.take("(")
        found = set()
        while not self.take(")"):
            found.add(self.words.pop(0))
            self.take(",")
        return found

    def unit(self) -> set[Labels] | None:
        if self.take("max", "sum"):
            kept = self.names() if self.take("by") else set()
            inner = self.unit()
            assert inner is not None and all(kept <= one for one in inner)
            return {frozenset(kept)}
        if self.take("("):
            found = self.either()
            assert self.take(")")
            return found
        word = self.words.pop(0)
        if re.fullmatch(r"[\d.]+", word):
            return None
        if self.words and self.words[0] == "(":
            assert word in {"absent", "rate", "increase", "delta", "deriv"}
            found = self.unit()
            return {frozenset()} if word == "absent" else found
        return {self.selected(word)}

    def selected(self, name: str) -> Labels:
        labels = self.series[name]
        if self.take("{"):
            while not self.take("}"):
                label, _operator, _value = self.words.pop(0), self.words.pop(0), self.words.pop(0)
                assert label in labels, f"{name} has no label {label}"
                self.take(",")
        if self.take("["):
            assert re.fullmatch(r"\d+[smhd]", self.words.pop(0))
            assert self.take("]")
        if self.take("offset"):
            assert re.fullmatch(r"\d+[smhd]", self.words.pop(0))
        return labels


def alerts() -> list[str]:
    (block,) = re.findall(r"^Worth an alert.*?^```\n(.*?)^```", SIGNALS, re.DOTALL | re.MULTILINE)
    return block.splitlines()  # type: ignore[no-any-return]


def of_the_runbook() -> list[str]:
    rows = re.findall(r"^\| (`.*?) \|", RUNBOOK, re.MULTILINE)
    return [expression for row in rows for expression in re.findall(r"`((?:spinepaint_|up\{)[^`]*)`", row)]


@pytest.mark.parametrize("expression", [*alerts(), *of_the_runbook()])
def test_an_alert_matches_what_is_told(expression: str) -> None:
    assert Expression(expression).whole()


def test_the_runbook_has_them_too() -> None:
    assert len(alerts()) == 6
    assert set(alerts()[:2]) <= set(of_the_runbook())


@pytest.mark.parametrize(
    "never",
    [
        'spinepaint_workers == 0 and spinepaint_jobs{state="queued"} > 0',
        'spinepaint_workers == 0 and ignoring(instance) spinepaint_jobs{state="queued"} > 0',
        "max by (problem) (spinepaint_job_failures_total) > spinepaint_job_failures_total offset 15m",
        'spinepaint_workers{state="idle"} == 0',
    ],
)
def test_what_can_never_fire_is_found(never: str) -> None:
    with pytest.raises(AssertionError):
        Expression(never).whole()


def test_a_lost_database_is_seen_whichever_way_it_shows() -> None:
    """No answer at all, an answer without figures, and one that says so."""
    assert re.fullmatch(r'up\{job="\w+"\} == 0 or absent\(spinepaint_ledger_up\) or spinepaint_ledger_up == 0', alerts()[0])


def test_the_failures_that_are_an_operator_s_are_problems_that_there_are() -> None:
    (kinds,) = re.findall(r'problem=~"([^"]*)"', "".join(alerts()))
    known = (ROOT / "spinepaint" / "store" / "attempts.py").read_text() + Path(problems.__file__).read_text()
    for kind in kinds.split("|"):
        assert f'{kind}"' in known, kind
