"""Several draws as one batch: the same pixels as alone, memory that runs out, callers that leave."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spinepaint.models.batching import Batcher, Order, inpaint_many, paint
from spinepaint.models.inpaint import Draw, Inpainter, inpaint
from tests.models.tiny import CROP, tiny_inpainter

FIRST = Draw(0, 3, (40.0, 40.0, 25.0), steps=2, guidance=2.0, seed=1, degree=0.4)
DRAWS = (
    FIRST,
    replace(FIRST, seed=2, landmark_mm=(30.0, 45.0, 20.0), sigma_mm=8.0, guidance=1.5),
    replace(FIRST, seed=3, condition=2, fsu=1, degree=None, see_donor=False),
)


class Watched(nn.Module):
    """A network that notes how many draws (not rows) it is shown, and whose memory holds so many."""

    def __init__(self, network: nn.Module, holds: int = 1000, error: type[Exception] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.network, self.config = network, network.config
        self.holds, self.error = holds, error
        self.shown: list[int] = []

    def forward(self, x: Tensor, *told: Tensor) -> Tensor:
        self.shown.append(len(x) // 2)  # both halves of guidance
        if len(x) // 2 > self.holds:
            raise self.error("no room")
        predicted: Tensor = self.network(x, *told)
        return predicted


@pytest.fixture(scope="module")
def models() -> Inpainter:
    return tiny_inpainter()


@pytest.fixture(scope="module")
def crops() -> list[Tensor]:
    generator = torch.Generator().manual_seed(8)
    return [torch.randn(CROP, generator=generator).clamp(-1, 1) for _ in DRAWS]


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    batcher = Batcher(3, patience_s=600.0)  # full batches only, however slow the machine
    yield batcher
    batcher.close()


def watched(models: Inpainter, **options: Any) -> tuple[Inpainter, Watched]:
    network = Watched(models.unet, **options)
    return replace(models, unet=network), network  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{}, {"method": "repaint", "solver": "ddim"}, {"guidance": 1.0}])
def test_a_batch_gives_what_single_draws_give(models: Inpainter, crops: list[Tensor], change: dict[str, Any]) -> None:
    draws = [replace(draw, **change) for draw in DRAWS]
    many = inpaint_many(models, crops, draws)
    for crop, draw, found in zip(crops, draws, many, strict=True):
        alone = inpaint(models, crop, draw)
        # Rounding of bfloat16 alone; an edit of another draw differs by far more.
        assert (found.edit - alone.edit).abs().mean() < 1e-3
        assert torch.equal(found.original, alone.original)
        assert (found.batch, alone.batch) == (3, 1)
        assert found.network_evaluations == alone.network_evaluations
    assert (many[0].edit - many[1].edit).abs().mean() > 1e-2


def test_company_and_place_change_no_bit(models: Inpainter, crops: list[Tensor]) -> None:
    together = inpaint_many(models, crops, DRAWS)
    backwards = inpaint_many(models, crops[::-1], DRAWS[::-1])[::-1]
    alone = [inpaint_many(models, [crop], [draw], size=3)[0] for crop, draw in zip(crops, DRAWS, strict=True)]
    for a, b, c in zip(together, backwards, alone, strict=True):
        assert torch.equal(a.edit, b.edit)
        assert torch.equal(a.edit, c.edit)


def test_what_does_not_go_together_goes_apart(models: Inpainter, crops: list[Tensor]) -> None:
    seen, network = watched(models)
    draws = [FIRST, replace(FIRST, solver="ddim"), replace(FIRST, steps=1)]
    found = inpaint_many(seen, crops, draws, size=2)
    assert [each.network_evaluations for each in found] == [6, 4, 2]
    assert network.shown == [2] * (3 + 2 + 1)  # a batch each, always of its full size


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_without_memory_the_batch_is_halved(models: Inpainter, crops: list[Tensor], error: type[Exception]) -> None:
    tight, network = watched(models, holds=1, error=error)
    orders = [Order(tight, crop, draw) for crop, draw in zip([*crops, crops[0]], [*DRAWS, FIRST], strict=True)]
    assert paint(orders, 4) == 1
    assert network.shown[:3] == [4, 2, 1]
    assert [order.taken().batch for order in orders] == [1] * 4
    assert torch.equal(orders[0].taken().edit, inpaint(models, crops[0], FIRST).edit)
    assert torch.equal(orders[3].taken().edit, orders[0].taken().edit)


def test_a_draw_that_never_fits_fails_by_itself(models: Inpainter, crops: list[Tensor]) -> None:
    full, _ = watched(models, holds=0, error=RuntimeError)
    full.unet.error = lambda _: RuntimeError("DefaultCPUAllocator: can't allocate memory")  # type: ignore[assignment]
    orders = [Order(full, crops[0], FIRST), Order(models, crops[1], DRAWS[1])]
    paint(orders, 2)
    with pytest.raises(MemoryError):
        orders[0].taken()
    assert orders[1].taken().edit.shape == CROP


def test_a_draw_that_cannot_be_done_leaves_the_others(models: Inpainter, crops: list[Tensor]) -> None:
    wrong = torch.zeros(3, 3, 3)  # no crop of this grid
    orders = [Order(models, crop, draw) for crop, draw in zip([crops[0], wrong, crops[2]], DRAWS, strict=True)]
    paint(orders, 3)
    with pytest.raises(RuntimeError):
        orders[1].taken()
    assert torch.equal(orders[0].taken().edit, inpaint_many(models, crops, DRAWS)[0].edit)
    assert orders[2].taken().batch == 3


class LeftError(Exception):
    """A caller that left."""


def leave(_share: float) -> None:
    raise LeftError


def test_who_leaves_disturbs_nobody(models: Inpainter, crops: list[Tensor]) -> None:
    heard: list[float] = []
    orders = [Order(models, crops[0], FIRST, heard.append), Order(models, crops[1], DRAWS[1], leave)]
    paint(orders, 3)
    with pytest.raises(LeftError):
        orders[1].taken()
    assert heard == [0.5, 1.0]
    assert torch.equal(orders[0].taken().edit, inpaint_many(models, crops, DRAWS)[0].edit)


def test_when_all_have_left_the_sampling_ends(models: Inpainter, crops: list[Tensor]) -> None:
    seen, network = watched(models)
    orders = [Order(seen, crops[0], replace(FIRST, steps=50), leave)]
    paint(orders, 1)
    assert len(network.shown) == 2  # the first step of PNDM


def test_callers_in_threads_share_a_batch(models: Inpainter, crops: list[Tensor], batcher: Batcher) -> None:
    seen, network = watched(models)
    found: dict[int, Tensor] = {}

    def call(k: int) -> None:
        found[k] = batcher(seen, crops[k], DRAWS[k]).edit

    threads = [threading.Thread(target=call, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert network.shown == [3, 3, 3]
    expected = inpaint_many(models, crops, DRAWS)
    assert all(torch.equal(found[k], expected[k].edit) for k in range(3))


def test_who_waits_for_company_can_leave(models: Inpainter, crops: list[Tensor], batcher: Batcher) -> None:
    seen, network = watched(models)
    with pytest.raises(LeftError):
        batcher(seen, crops[0], FIRST, leave)
    assert network.shown == []


def test_a_closed_batcher_ends_what_waits_and_takes_no_more(models: Inpainter, crops: list[Tensor]) -> None:
    batcher, found = Batcher(3, patience_s=600.0), []
    waiting = threading.Event()
    caller = threading.Thread(target=lambda: found.append(batcher(models, crops[0], FIRST, lambda _: waiting.set())))
    caller.start()
    assert waiting.wait(150)
    batcher.close()
    caller.join()
    assert found[0].edit.shape == CROP
    with pytest.raises(ValueError, match="closed"):
        batcher(models, crops[0], FIRST)


def test_a_batcher_keeps_the_size_that_fitted(models: Inpainter, crops: list[Tensor]) -> None:
    tight, network = watched(models, holds=2)
    batcher = Batcher(4, patience_s=0.0)
    assert [batcher(tight, crops[0], draw).batch for draw in DRAWS] == [2, 2, 2]
    assert (batcher.size, network.shown.count(4)) == (2, 1)
    batcher.close()
