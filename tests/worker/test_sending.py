"""That something was sent is written down, also where the database is away at that moment."""

from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from spinepaint.worker import sending
from spinepaint.worker.sending import recorded
from tests.worker.receivers import WebReceiver
from tests.worker.test_webhooks import Desk, desk

__all__ = ["desk"]
AWAY = OperationalError("", {}, Exception())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_PAUSE_S", 0.01)


def test_a_caller_who_was_told_while_the_database_was_away_is_not_told_again(
    desk: Desk, web: WebReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = desk.finish(f"{web.url}/hook")
    end, tries = desk.ledger.end_webhook, iter(range(3))

    def away_at_first(taken: Any) -> bool:
        if next(tries) < 2:
            raise AWAY
        return end(taken)

    monkeypatch.setattr(desk.ledger, "end_webhook", away_at_first)
    assert desk.send_due() == 1
    assert desk.state(job) == ("delivered", 1)
    assert len(web.bodies) == 1


def test_a_database_that_stays_away_is_told_once_the_time_is_up() -> None:
    def away() -> bool:
        raise AWAY

    with pytest.raises(OperationalError):
        recorded(away, within_s=0.03)
