"""Follows jobs for the clients of this gateway: one look at the ledger for all of them, however many listen.

Everything is in the ledger, so a client may go on here with what another gateway, or this one before it was started again,
has told it: a feed holds nothing that would be missed.
"""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fastapi.concurrency import run_in_threadpool

from spinepaint.store.ledger import Ledger
from spinepaint.store.models import FINISHED, Event

_log = logging.getLogger(__name__)
POLL_S = 0.25
_PAUSE_S = 2.0
MOST_BEHIND = 2000
"""Events that are kept for a client that is slow to take them; one that is slower is let go, and asks again."""


class Listener:
    """A client's side of a feed: the events of one job as they come; None is the end."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()

    async def next(self, within_s: float) -> Event | None:
        """The next event, or None where there are no more. Raises TimeoutError where none comes in time."""
        return await asyncio.wait_for(self._events.get(), within_s)

    def tell(self, event: Event | None) -> None:
        """Pass an event on, or the end."""
        if event is not None and self._events.qsize() >= MOST_BEHIND:
            event = None
        self._events.put_nowait(event)


@dataclass
class _Followed:
    """A job that somebody listens to: the last event that the listeners were told of."""

    after: int
    listeners: set[Listener] = field(default_factory=set)

    def tell(self, event: Event | None) -> None:
        for listener in self.listeners:
            listener.tell(event)


class Feed:
    """The jobs that are followed at this gateway. To be used from the event loop only."""

    def __init__(self, ledger: Ledger, stopping: threading.Event) -> None:
        """`stopping` ends all listening."""
        self._ledger, self._stopping = ledger, stopping
        self._jobs: dict[str, _Followed] = {}
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def listen(self, job_id: str, last_event: int) -> Iterator[Listener]:
        """A listener to what happens to a job after the event `last_event`, which the ledger was seen to have."""
        followed = self._jobs.setdefault(job_id, _Followed(last_event))
        listener = Listener()
        followed.listeners.add(listener)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow())
        try:
            yield listener
        finally:
            followed.listeners.discard(listener)
            if not followed.listeners and self._jobs.get(job_id) is followed:
                del self._jobs[job_id]

    async def _follow(self) -> None:
        """Look until nobody listens."""
        while self._jobs:
            pause_s = POLL_S
            try:
                if not self._stopping.is_set():
                    await self._look()
            except Exception as error:
                # Those who listen hear of it when the ledger answers again.
                _log.warning("events were not read (%s); tried again", type(error).__name__)
                pause_s = _PAUSE_S
            if self._stopping.is_set():
                self._end(list(self._jobs))
            await asyncio.sleep(pause_s)

    async def _look(self) -> None:
        followed = {job_id: job.after for job_id, job in self._jobs.items()}
        last = await run_in_threadpool(self._ledger.last_events, list(followed))
        behind = {job_id: after for job_id, after in followed.items() if last.get(job_id, 0) > after}
        for event in await run_in_threadpool(self._ledger.events_since, behind) if behind else []:
            job = self._jobs.get(event.job_id)
            if job is not None and event.seq > job.after:
                job.after = event.seq
                job.tell(event)
        self._end([job_id for job_id in followed if job_id not in last])  # deleted

    def _end(self, job_ids: list[str]) -> None:
        for job_id in job_ids:
            if job_id in self._jobs:
                self._jobs[job_id].tell(None)


def is_last(event: Event) -> bool:
    """Whether the job had ended with this event."""
    return event.type == "state" and event.data.get("state") in FINISHED
