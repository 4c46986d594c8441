"""UIDs follow from what they name, and from all of it."""

import uuid
from dataclasses import replace
from typing import Any

import pytest
from pydicom.uid import UID

from spinepaint.imaging.uids import IMPLEMENTATION_CLASS_UID, canonical_json, uid_from
from spinepaint.imaging.vocabulary import Fsu, Pathology, Severity
from tests.imaging.painted import PROVENANCE


def test_a_uid_is_a_name_based_uuid_under_2_25() -> None:
    uid = uid_from("a", "b")
    assert uid.is_valid
    assert len(uid) <= 64
    root, number = uid.rsplit(".", 1)
    assert root == "2.25"
    assert uuid.UUID(int=int(number)).version == 5


def test_the_same_parts_give_the_same_uid_in_every_release() -> None:
    assert uid_from("a", "b") == uid_from("a", "b")
    # Written down, so that a change that would rename everybody's series cannot pass unseen.
    assert uid_from("a", "b") == UID("2.25.171112335224767659040877581555890631910")
    assert UID("2.25.298115770079982325983455829224734005187") == IMPLEMENTATION_CLASS_UID


def test_parts_keep_their_borders_and_their_order() -> None:
    assert len({uid_from("ab", "c"), uid_from("a", "bc"), uid_from("abc"), uid_from("c", "ab"), uid_from("ab", "c", "")}) == 5


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": 1, "a": {"d": None, "c": [1.5]}}) == '{"a":{"c":[1.5],"d":null},"b":1}'
    assert canonical_json({"a": {"c": [1.5], "d": None}, "b": 1}) == canonical_json({"b": 1, "a": {"d": None, "c": [1.5]}})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_canonical_json_refuses_what_json_has_no_word_for(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"sigma_mm": value})


@pytest.mark.parametrize(
    "change",
    [
        {"version": "0.1.1"},
        {"bundle_name": "other"},
        {"bundle_sha256": "f" * 64},
        {"pathology": Pathology.CENTRAL_CANAL_STENOSIS},
        {"severity": Severity.SMALL},
        {"fsu": Fsu.L3_L4},
        {"landmark_lps_mm": (0.0, 4.5, -9.001)},
        {"spec": {**PROVENANCE.spec, "seed": 8}},
        {"spec": {**PROVENANCE.spec, "sample": 2}},
        {"spec": {**PROVENANCE.spec, "note": None}},
    ],
)
def test_every_part_of_the_provenance_counts(change: dict[str, Any]) -> None:
    assert replace(PROVENANCE, **change).uid("series") != PROVENANCE.uid("series")


def test_the_order_of_the_spec_does_not_count() -> None:
    turned = dict(reversed(list(PROVENANCE.spec.items())))
    assert replace(PROVENANCE, spec=turned).uid("series", "1.2") == PROVENANCE.uid("series", "1.2")
