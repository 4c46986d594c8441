"""Chains of disc candidates and their joint naming."""

import numpy as np
import pytest

from spinepaint.models.naming import ABOVE, SACRAL, name_levels, spine_chain

LEVELS = ("T11-T12", "T12-L1", "L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1")


def _spine(count: int, gap: float = 36.0) -> np.ndarray:
    """(count, 3) points (slice, row, column) in mm, cranial first, on a lordotic curve."""
    t = np.arange(count)
    return np.stack([20 + t, 60 + gap * t, 100 - 12 * np.sin(t / 2)], axis=1)


def _evidence(truth: list[int], strength: float) -> np.ndarray:
    logits = np.zeros((len(truth), len(LEVELS)))
    logits[np.arange(len(truth)), truth] = strength
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def test_chain_orders_a_shuffled_spine_from_below() -> None:
    points = _spine(6)
    shuffle = np.array([3, 0, 5, 1, 4, 2])
    chain = spine_chain(points[shuffle], np.full(6, 0.8))
    assert [int(shuffle[i]) for i in chain.order] == [5, 4, 3, 2, 1, 0]
    assert chain.ranks == (0, 1, 2, 3, 4, 5)


def test_chain_leaves_out_what_is_off_the_curve() -> None:
    points = np.vstack([_spine(5), [[20.0, 130.0, 20.0], [20.0, 135.0, 190.0]]])
    chain = spine_chain(points, np.array([0.7] * 5 + [0.9, 0.9]))
    assert chain.order == (4, 3, 2, 1, 0)


def test_chain_counts_a_missing_disc() -> None:
    points = np.delete(_spine(6), 3, axis=0)
    assert spine_chain(points, np.full(5, 0.8)).ranks == (0, 1, 3, 4, 5)


def test_chain_turns_backward_into_the_sacrum_rather_than_forward_into_the_bowel() -> None:
    spine = np.array([[20.0, 100 + 38 * i, 100 - 6 * i] for i in range(4)])
    sacral, bowel = spine[-1] + (0, 26, 23), spine[-1] + (0, 80, 10)
    chain = spine_chain(np.vstack([spine, sacral, bowel]), np.array([0.8, 0.8, 0.8, 0.8, 0.7, 0.75]))
    assert chain.order[0] == 4


def test_chain_does_not_step_aside() -> None:
    spine = _spine(5)
    beside = spine[-1] + (30, 34, 0)
    assert 5 not in spine_chain(np.vstack([spine, beside]), np.full(6, 0.8)).order


def test_chain_of_nothing_and_of_one() -> None:
    assert spine_chain(np.zeros((0, 3)), np.zeros(0)).order == ()
    assert spine_chain(np.array([[0.0, 10.0, 10.0]]), np.array([0.5])).order == (0,)


def test_naming_outvotes_one_wrong_level() -> None:
    truth = [6, 5, 4, 3, 2]
    said = [6, 4, 4, 3, 2]  # L4-L5 taken for L3-L4
    naming = name_levels(_evidence(said, 2.0), (0, 1, 2, 3, 4), LEVELS)
    assert naming.names == tuple(LEVELS[i] for i in truth)
    assert naming.margin > 0 and 0.5 < naming.probability <= 1


@pytest.mark.parametrize("lowest", [6, 5, 4])
def test_naming_with_the_field_of_view_cut_below(lowest: int) -> None:
    truth = [lowest - rank for rank in range(3)]
    naming = name_levels(_evidence(truth, 3.0), (0, 1, 2), LEVELS)
    assert naming.names == tuple(LEVELS[i] for i in truth)


def test_naming_respects_a_missing_disc() -> None:
    naming = name_levels(_evidence([6, 5, 3, 2], 3.0), (0, 1, 3, 4), LEVELS)
    assert naming.names == ("L5-S1", "L4-L5", "L2-L3", "L1-L2")


def test_a_rudimentary_sacral_disc_is_named_as_such() -> None:
    evidence = _evidence([6, 6, 5, 4, 3, 2], 4.0)
    naming = name_levels(evidence, (0, 1, 2, 3, 4, 5), LEVELS)
    assert naming.names == (SACRAL, "L5-S1", "L4-L5", "L3-L4", "L2-L3", "L1-L2")


def test_discs_beyond_the_first_level_are_above() -> None:
    naming = name_levels(_evidence([6, 5, 4, 3, 2, 1, 0, 0, 0], 3.0), tuple(range(9)), LEVELS)
    assert naming.names[6:] == ("T11-T12", ABOVE, ABOVE)


def test_no_evidence_gives_no_margin() -> None:
    naming = name_levels(_evidence([4, 3, 2], 0.0), (0, 1, 2), LEVELS)
    assert naming.margin == pytest.approx(0.0)
    assert naming.probability < 0.5


def test_sacral_remnants_and_bowel_below_do_not_shift_the_names() -> None:
    # A wide field of view: three candidates under L5-S1, which the network, knowing no other name, calls L5-S1 too.
    said = [6, 6, 6, 6, 5, 4, 3, 2]
    naming = name_levels(_evidence(said, 5.0), tuple(range(8)), LEVELS)
    assert naming.names == (SACRAL, SACRAL, SACRAL, "L5-S1", "L4-L5", "L3-L4", "L2-L3", "L1-L2")
    assert naming.margin > 1.0
