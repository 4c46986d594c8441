"""Several draws sampled as one batch, of one caller or of many, up to what memory holds.

What a draw gives must not depend on which others it was sampled with. So the network sees a batch of one shape at all times: rows
that nobody asked for repeat the last draw, and a draw whose caller left is computed on. The kernels that run are then the same,
and none of them looks across rows. Another size of batch may round differently; `Decoded.batch` says which one it was.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spinepaint.models.inpaint import Begun, Decoded, Draw, Inpainter, Progress, batch_key, begin, finish, sample

_log = logging.getLogger(__name__)
PATIENCE_S = 0.5
"""How long a draw waits for others to fill its batch; while the network is busy they gather anyway."""
_LOOK_EVERY_S = 0.25


class _NobodyLeft(Exception):
    """All whose draws are being sampled have gone."""


@dataclass(eq=False)
class Order:
    """A draw that somebody waits for: in the end it has a result, or the error that ended it."""

    models: Inpainter
    crop: Tensor
    draw: Draw
    progress: Progress = lambda _: None
    result: Decoded | None = None
    error: BaseException | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def deliver(self, result: Decoded) -> None:
        """End with a result."""
        self.result = result
        self.ended.set()

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        self.error = error
        self.ended.set()

    def hear(self, share: float) -> None:
        """Tell its caller, who leaves by raising."""
        try:
            self.progress(share)
        except BaseException as error:
            self.fail(error)

    def taken(self) -> Decoded:
        """The result. Raises the error that ended the draw."""
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise ValueError("the draw has not ended")
        return self.result


def inpaint_many(models: Inpainter, crops: Sequence[Tensor], draws: Sequence[Draw], size: int | None = None) -> list[Decoded]:
    """`inpaint` of each crop (X, Y, Z) with its draw, in batches of `size`, by default of all of them.

    Draws of other methods, solvers or numbers of steps go to batches of their own. The same pixels as `inpaint` of each alone up
    to rounding, and the very same as those of any other call with this size. Raises what ended the first draw that failed.
    """
    orders = [Order(models, crop, draw) for crop, draw in zip(crops, draws, strict=True)]
    paint(orders, size or max(1, len(orders)))
    return [order.taken() for order in orders]


def paint(orders: Sequence[Order], size: int) -> int:
    """End every order, in batches of `size` rows or, where memory runs out, of half as many, and so on; the size that fitted.

    A draw that does not fit by itself ends with the error of memory; any other error ends those only that raise it alone.
    """
    groups: dict[tuple[object, ...], list[Order]] = {}
    for order in orders:
        groups.setdefault(compatible(order), []).append(order)
    for group in groups.values():
        size = _paint_alike(group, size)
    return size


def compatible(order: Order) -> tuple[object, ...]:
    """What orders of one batch have in common."""
    return id(order.models.unet), *batch_key(order.draw)


def _paint_alike(orders: list[Order], size: int) -> int:
    while orders := [order for order in orders if not order.ended.is_set()]:
        now = orders[:size]
        error = _try(now, size)
        if error is None:
            continue
        if is_out_of_memory(error) and size > 1:
            size //= 2
            _log.warning("out of memory: batches of %d from now on", size)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        elif len(now) == 1:
            now[0].fail(MemoryError() if is_out_of_memory(error) else error)
        else:
            for order in now:  # whose fault it was
                size = _paint_alike([order], size)
    return size


def _try(orders: list[Order], size: int) -> Exception | None:
    """Sample one batch; the error that kept it from its end, without what its frames held in memory."""
    try:
        _sample(orders, size)
    except _NobodyLeft:
        return None
    except Exception as error:
        waiting = [order for order in orders if not order.ended.is_set()]
        # Frames hold tensors, which are to be gone before the next try.
        return error if len(waiting) == 1 and not is_out_of_memory(error) else error.with_traceback(None)
    return None


def _sample(orders: list[Order], size: int) -> None:
    begun: list[Begun] = [begin(order.models, order.crop, order.draw) for order in orders]

    def tell(share: float) -> None:
        for order in orders:
            if not order.ended.is_set():
                order.hear(share)
        if all(order.ended.is_set() for order in orders):
            raise _NobodyLeft

    rows = begun + [begun[-1]] * (size - len(begun))
    sampled = sample(orders[0].models, rows, tell)
    for order, its, row in zip(orders, begun, torch.split(sampled, 1), strict=False):
        if not order.ended.is_set():
            order.deliver(finish(order.models, its, row, batch=size))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, a GPU's or the machine's: on the CPU torch has no class of its own for it."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


class Batcher:
    """`inpaint` for several threads, whose draws are sampled together by a thread of its own. Close it in the end.

    size: rows of a batch; smaller once memory did not hold them.
    """

    def __init__(self, size: int, patience_s: float = PATIENCE_S) -> None:
        """Begin to wait for draws."""
        self.size, self._patience_s = size, patience_s
        self._waiting: list[Order] = []
        self._changed = threading.Condition()
        self._closed = False
        # A daemon: a GPU that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def __call__(self, models: Inpainter, crop: Tensor, draw: Draw, progress: Progress = lambda _: None) -> Decoded:
        """As `inpaint`; `progress` is also asked while the draw waits, and a draw whose caller left disturbs no other."""
        order = Order(models, crop, draw, progress)
        with self._changed:
            if self._closed:
                raise ValueError("the batcher is closed")
            self._waiting.append(order)
            self._changed.notify_all()
        while not order.ended.wait(_LOOK_EVERY_S):
            with self._changed:
                if order in self._waiting:
                    order.hear(0.0)
                    if order.ended.is_set():
                        self._waiting.remove(order)
        return order.taken()

    def close(self) -> None:
        """Take no more draws, end those that wait, and wait for the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while (orders := self._next()) is not None:
            self.size = paint(orders, self.size)

    def _next(self) -> list[Order] | None:
        """The next draws that go together, the longest waiting first; None once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._changed.wait_for(lambda: self._full() or self._closed, self._patience_s)
            if not self._waiting:  # closed, or the only caller left meanwhile
                return None if self._closed else []
            key = compatible(self._waiting[0])
            chosen = [order for order in self._waiting if compatible(order) == key][: self.size]
            self._waiting = [order for order in self._waiting if order not in chosen]
            return chosen

    def _full(self) -> bool:
        alike = [order for order in self._waiting if compatible(order) == compatible(self._waiting[0])]
        return not self._waiting or len(alike) >= self.size
