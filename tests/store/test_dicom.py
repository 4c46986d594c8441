"""DICOM objects in the ledger, on SQLite and PostgreSQL alike."""

from datetime import timedelta
from typing import Any

import pytest

from spinepaint.store import Ledger, Match, StoredInstance, by_series
from spinepaint.store.database import utc_now
from spinepaint.store.dicom_keys import BY_NAME


def instance(number: int, series: str = "1.2.1", study: str = "1.2", **attributes: Any) -> StoredInstance:
    vr_of = {"PatientName": "PN", "SeriesNumber": "IS"}
    known = {"PatientID": "P_1", "Modality": "MR", "SeriesNumber": 3, "StudyTime": "0930", "PatientName": "Ärzt^Ö"} | attributes
    json = {
        BY_NAME[name].tag: {"vr": vr_of.get(name, "LO"), "Value": [{"Alphabetic": value} if name == "PatientName" else value]}
        for name, value in known.items()
    }
    return StoredInstance(
        f"sources/a/{number}",
        {
            "study_uid": study,
            "series_uid": series,
            "sop_class_uid": "1.2.840.10008.5.1.4.1.1.4",
            "sop_instance_uid": f"{series}.{number}",
            "transfer_syntax_uid": "1.2.840.10008.1.2.1",
            "instance_number": number,
            "size": 10,
            "sha256": f"{series}{number}{attributes}",
            "attributes": json | {"00200013": {"vr": "IS", "Value": [number]}},
            "bulk": {},
            "frames": [[[100, 8]]],
        },
    )


def keep(ledger: Ledger, *instances: StoredInstance) -> str:
    return ledger.add_series(sha256="0" * 64, geometry={}, warnings=[], artifact_key="sources/a/", dicom=by_series(instances)).id


def match(name: str, kind: Any, *values: str) -> Match:
    return Match(BY_NAME[name], kind, values)


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (match("PatientID", "any of", "P_1"), True),
        (match("PatientID", "any of", "p_1"), False),
        (match("PatientID", "pattern", "P_*"), True),
        (match("PatientID", "pattern", "p_*"), False),
        (match("PatientID", "pattern", "PX?"), False),
        (match("PatientID", "pattern", "?_1"), True),
        (match("PatientID", "pattern", "%"), False),
        (match("PatientName", "pattern", "ärz*"), True),
        (match("StudyTime", "range", "093000.000000", "093000.000000"), True),
        (match("StudyTime", "range", "", "092959.999999"), False),
        (match("StudyDate", "range", "", "20300101"), False),
        (match("SeriesNumber", "any of", "3"), True),
        (match("SeriesNumber", "any of", "+4"), False),
        (match("StudyInstanceUID", "any of", "9", "1.2"), True),
    ],
)
def test_matching(ledger: Ledger, condition: Match, found: bool) -> None:
    keep(ledger, instance(1), instance(2))
    assert bool(ledger.search_series([condition], 10, 0)) is found
    assert bool(ledger.search_studies([condition], 10, 0) if condition.key.level == "study" else found) is found


def test_only_what_all_instances_share_is_said_of_the_series(ledger: Ledger) -> None:
    keep(ledger, instance(1, PatientID="A"), instance(2, PatientID="B"))
    (series,) = ledger.search_series([], 10, 0)
    assert BY_NAME["PatientID"].tag not in series.attributes
    assert series.patient_id is None
    assert series.modality == "MR"
    assert [at.instance.instance_number for at in ledger.search_instances([], 10, 0)] == [1, 2]


def test_the_last_one_stored_under_a_uid_is_seen_until_it_is_deleted(ledger: Ledger) -> None:
    first = keep(ledger, instance(1), instance(2))
    second = keep(ledger, instance(1), instance(2), instance(3))
    assert [series.instances for series in ledger.search_series([], 10, 0)] == [3]
    assert len(ledger.locate("1.2")) == 3
    (study,) = ledger.search_studies([], 10, 0)
    assert (study.series, study.instances, study.modalities) == (1, 3, ["MR"])
    ledger.delete_series(second)
    assert len(ledger.locate("1.2", "1.2.1")) == 2
    found = ledger.source_of("1.2.1")
    assert found is not None
    assert found.id == first
    ledger.delete_series(first)
    assert ledger.locate("1.2") == []
    assert ledger.search_studies([], 10, 0) == []


def test_what_is_stored_again_is_the_last_that_was_stored(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    first = keep(ledger, instance(1), instance(2))
    second = keep(ledger, instance(1), instance(2), instance(3))
    back = utc_now() - timedelta(days=1)
    monkeypatch.setattr("spinepaint.store.dicom_entries.utc_now", lambda: back)  # a clock that was set back changes nothing
    assert ledger.store_again(first)
    found = ledger.source_of("1.2.1")
    assert found is not None
    assert found.id == first
    assert [series.instances for series in ledger.search_series([], 10, 0)] == [2]
    third = keep(ledger, instance(1))
    assert len(ledger.locate("1.2")) == 1
    ledger.delete_series(third)
    ledger.delete_series(first)
    assert not ledger.store_again(first)
    assert ledger.store_again(second)


KANJI, KANA = "山田^太郎", "やまだ^たろう"


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (Match(BY_NAME["PatientName"], "any of", (KANJI,)), True),
        (Match(BY_NAME["PatientName"], "pattern", ("やま*",)), True),
        (Match(BY_NAME["PatientName"], "pattern", ("yama*",), 0), True),
        (Match(BY_NAME["PatientName"], "pattern", ("山*",), 0), False),
        (Match(BY_NAME["PatientName"], "pattern", ("山*",), 1), True),
        (Match(BY_NAME["PatientName"], "any of", (KANA,), 2), True),
        (Match(BY_NAME["PatientName"], "pattern", ("y*郎",)), False),
    ],
)
def test_names_are_matched_by_each_component_group(ledger: Ledger, condition: Match, found: bool) -> None:
    kept = instance(1)
    value = {"Alphabetic": "Yamada^Tarou", "Ideographic": KANJI, "Phonetic": KANA}
    kept.indexed["attributes"]["00100010"]["Value"] = [value]
    keep(ledger, kept)
    assert bool(ledger.search_series([condition], 10, 0)) is found


def test_the_content_tells_one_series_from_another_of_its_uid(ledger: Ledger) -> None:
    kept = by_series([instance(2), instance(1)])[0]
    series_id = keep(ledger, instance(1), instance(2))
    same = ledger.source_of("1.2.1", kept.digest)
    assert same is not None
    assert same.id == series_id
    assert ledger.source_of("1.2.1", by_series([instance(1)])[0].digest) is None


def test_studies_come_newest_first_and_in_pages(ledger: Ledger) -> None:
    for number in range(5):
        keep(ledger, instance(1, f"1.{number}.1", f"1.{number}"), instance(1, f"1.{number}.2", f"1.{number}", Modality="SEG"))
    pages = [ledger.search_studies([], 2, offset) for offset in (0, 2, 4)]
    assert [study.study_uid for page in pages for study in page] == ["1.4", "1.3", "1.2", "1.1", "1.0"]
    assert pages[0][0].modalities == ["MR", "SEG"]
    assert [s.series_uid for s in ledger.search_series([match("Modality", "any of", "SEG")], 2, 1)] == ["1.3.2", "1.2.2"]


def test_attributes_are_loaded_when_they_are_asked_for(ledger: Ledger) -> None:
    keep(ledger, instance(1), instance(2))
    located = ledger.locate("1.2", "1.2.1", "1.2.1.2")
    (attributes,) = ledger.instance_attributes(located).values()
    assert attributes["00200013"]["Value"] == [2]
    assert located[0].instance.layout["frames"] == [[[100, 8]]]


def test_odd_values_are_kept_but_not_compared(ledger: Ledger) -> None:
    keep(ledger, instance(1, SeriesNumber="a lot", PatientID="nul\0x" + "y" * 300))
    (series,) = ledger.search_series([], 10, 0)
    assert series.series_number is None
    assert (series.patient_id or "").startswith("nulxy")
