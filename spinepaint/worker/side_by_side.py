"""Several pieces of one kind of work at a time, each in a thread of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")


def side_by_side(work: Callable[[A], T], items: Sequence[A], at_once: int, halt: Callable[[], None]) -> list[T]:
    """What `work` gives for each item, in their order, by so many threads; in this one, one after the other, where that is 1.

    Where one raises, no more are begun, `halt` is called to stop the others, and once all have ended the error is raised: of
    several the first that came.
    """
    if at_once == 1 or len(items) == 1:
        return [work(item) for item in items]
    errors: list[BaseException] = []

    def run(item: A) -> T:
        try:
            return work(item)
        except BaseException as error:
            errors.append(error)  # before the others are stopped, who raise in turn
            halt()
            raise

    with ThreadPoolExecutor(min(at_once, len(items)), thread_name_prefix="beside") as pool:
        # What logs say of the job is in the context.
        futures: list[Future[T]] = [pool.submit(copy_context().run, run, item) for item in items]
        wait(futures, return_when=FIRST_EXCEPTION)
        pool.shutdown(cancel_futures=True)
    if errors:
        raise errors[0]
    return [future.result() for future in futures]
