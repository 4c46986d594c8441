"""How many uploads are let in, and when the others are told to come."""

from contextlib import ExitStack, suppress

import pytest
from fastapi.testclient import TestClient

from spinepaint.app.admission import FIRST, LEAST, LONGEST_S, QUICK_S, SLOW_BYTES_PER_S, SOON_S, Admission, Busy
from spinepaint.imaging.errors import Refusal
from tests.app.conftest import Files, problem_type


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    return Admission(64, clock)


def fill(admission: Admission, stack: ExitStack) -> int:
    """Let in as many as may be; how many."""
    count = 0
    while True:
        try:
            admission.received(stack.enter_context(admission.turn()))
        except Busy:
            return count
        count += 1
        assert count < 1000


def accept(admission: Admission, clock: Clock, took_s: float, beside: int = 0) -> None:
    """An upload that takes so long from its last byte on, while others are under way."""
    with ExitStack() as stack:
        for _ in range(beside):
            stack.enter_context(admission.turn())
        with admission.turn() as turn:
            admission.received(turn)
            clock.now += took_s


def test_so_many_are_let_in_and_room_is_made_by_those_that_end(admission: Admission) -> None:
    with ExitStack() as stack:
        assert fill(admission, stack) == FIRST
    with ExitStack() as stack:
        assert fill(admission, stack) == FIRST


def test_an_upload_that_fails_makes_room_and_teaches_nothing(admission: Admission, clock: Clock) -> None:
    with suppress(Refusal), admission.turn() as turn:
        admission.received(turn)
        clock.now += 100 * SOON_S
        raise Refusal("missing-slice", "A slice is missing.")
    assert (admission.under_way(clock.now), admission.limit) == (0, FIRST)


def test_slow_bodies_take_no_room_until_they_are_whole(admission: Admission, clock: Clock) -> None:
    with ExitStack() as stack:
        slow, quick = (stack.enter_context(admission.turn()) for _ in range(2))
        clock.now += 2 * QUICK_S
        slow.size = int(QUICK_S * SLOW_BYTES_PER_S)
        quick.size = int(2 * QUICK_S * SLOW_BYTES_PER_S)
        assert admission.under_way(clock.now) == 1
        admission.received(slow)
        assert admission.under_way(clock.now) == 2


def test_the_limit_rises_while_accepting_is_quick_and_there_is_a_crowd(admission: Admission, clock: Clock) -> None:
    for _ in range(20):
        accept(admission, clock, SOON_S / 2)
    assert admission.limit == FIRST
    for _ in range(20):
        accept(admission, clock, SOON_S / 2, beside=FIRST // 2)
    assert FIRST + 1 < admission.limit < FIRST + 4


def test_the_limit_falls_while_accepting_is_slow_and_not_without_end(admission: Admission, clock: Clock) -> None:
    accept(admission, clock, 2 * SOON_S)
    assert admission.limit == pytest.approx(0.8 * FIRST)
    for _ in range(20):
        clock.now += 0.1
        accept(admission, clock, 2 * SOON_S)
    assert admission.limit == LEAST


def test_those_that_were_let_in_together_cut_the_limit_once(admission: Admission, clock: Clock) -> None:
    with ExitStack() as stack:
        for turn in [stack.enter_context(admission.turn()) for _ in range(FIRST)]:
            admission.received(turn)
        clock.now += 2 * SOON_S
    assert admission.limit == pytest.approx(0.8 * FIRST)


def test_never_more_than_the_setting(clock: Clock) -> None:
    admission = Admission(2, clock)
    for _ in range(50):
        accept(admission, clock, SOON_S / 2, beside=1)
    with ExitStack() as stack:
        assert fill(admission, stack) == 2
    accept(admission, clock, 100.0)
    assert admission.limit == 2


def test_those_turned_away_are_told_to_come_one_after_the_other(admission: Admission, clock: Clock) -> None:
    for _ in range(100):
        accept(admission, clock, 4.0)
    told = []
    with ExitStack() as stack:
        fill(admission, stack)
        for _ in range(200):
            with pytest.raises(Busy) as refused:
                stack.enter_context(admission.turn())
            told.append(refused.value.retry_after_s)
        assert told == sorted(told)
        assert told[:20] == list(range(2, 22)) and told[-1] == LONGEST_S  # four at a time, 4 s each; one was told 1 before
        clock.now += LONGEST_S
        with pytest.raises(Busy) as later:
            stack.enter_context(admission.turn())
        assert later.value.retry_after_s <= 2


def test_over_http_it_is_429_with_retry_after_and_leaves_nothing(client: TestClient, upload: Files) -> None:
    admission: Admission = client.app.state.admission  # type: ignore[attr-defined]
    with ExitStack() as stack:
        fill(admission, stack)
        for path in ("/v1/series", "/v1/series:check", "/v1/inpaint"):
            answer = client.post(path, files=upload, data={"spec": "{}"} if path.endswith("inpaint") else {})
            assert answer.status_code == 429
            assert problem_type(answer) == "too-many-uploads"
            assert 1 <= int(answer.headers["retry-after"]) <= LONGEST_S
        assert client.get("/v1/jobs").status_code == 200
        settings = client.app.state.settings  # type: ignore[attr-defined]
        assert list((settings.data_dir / "incoming").glob("*")) == []
    assert client.post("/v1/series", files=upload).status_code == 201
