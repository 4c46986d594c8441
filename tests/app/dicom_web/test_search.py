"""QIDO-RS: what is found, what is returned, page by page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset, dcmread
from sqlalchemy import text

from spinepaint.store.database import utc_now
from tests.app.dicom_web.conftest import Gateway, running_gateway
from tests.imaging.series_factory import make_series
from tests.store.discards import due_discards

PATIENT_ID, NAME, STUDY, SERIES, INSTANCE = "00100020", "00100010", "0020000D", "0020000E", "00080018"


@pytest.fixture(scope="module")
def second_study(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    def another_patient(ds: Any, _index: int) -> None:
        ds.PatientID, ds.PatientName, ds.StudyDate, ds.StudyTime = "B[1]", "Müller^Änne", "20210304", "235959"
        ds.StudyInstanceUID = ds.StudyInstanceUID[:-3] + "777"
        ds.SeriesNumber = 9

    paths = make_series(
        tmp_path_factory.mktemp("two"), slices=5, rows=64, columns=64, spacing_mm=(4.4, 2.0, 2.0), seed=3, mutate=another_patient
    )
    return [dcmread(path) for path in paths]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, source: list[Dataset], second_study: list[Dataset]) -> Iterator[Gateway]:
    """One for all tests here, which only look, but for those at the end."""
    with running_gateway(tmp_path_factory.mktemp("data")) as gateway:
        gateway.web.store_instances(source)
        gateway.web.store_instances(second_study)
        yield gateway


@pytest.fixture
def web(gateway: Gateway) -> DICOMwebClient:
    return gateway.web


def values(found: list[dict[str, Any]], tag: str) -> list[Any]:
    return [value for item in found for value in item[tag].get("Value", [None])]


def test_studies_newest_first(web: DICOMwebClient, source: list[Dataset], second_study: list[Dataset]) -> None:
    found = web.search_for_studies()
    assert values(found, STUDY) == [second_study[0].StudyInstanceUID, source[0].StudyInstanceUID]
    study = Dataset.from_json(found[1])
    assert (study.PatientID, study.PatientName, study.StudyDate) == ("INVENTED-1", "Invented^Patient", "20200102")
    assert (study.NumberOfStudyRelatedSeries, study.NumberOfStudyRelatedInstances) == (1, 7)
    assert study.ModalitiesInStudy == "MR"
    assert study.RetrieveURL.endswith(f"/dicom-web/studies/{source[0].StudyInstanceUID}")
    assert "StudyDescription" not in study


@pytest.mark.parametrize(
    ("query", "patients"),
    [
        ({"PatientID": "INVENTED-1"}, ["INVENTED-1"]),
        ({"PatientID": "invented-1"}, []),
        ({"00100020": "INVENTED-1"}, ["INVENTED-1"]),
        ({"PatientID": "INV*"}, ["INVENTED-1"]),
        ({"PatientID": "inv*"}, []),
        ({"PatientID": "?[1]"}, ["B[1]"]),
        ({"PatientID": "?1*"}, []),
        ({"PatientID": "%"}, []),
        ({"PatientID": ""}, ["B[1]", "INVENTED-1"]),
        ({"PatientName": "invented^patient"}, ["INVENTED-1"]),
        ({"PatientName": "MÜLLER*"}, ["B[1]"]),
        ({"StudyDate": "20200102"}, ["INVENTED-1"]),
        ({"StudyDate": "20200101-20201231"}, ["INVENTED-1"]),
        ({"StudyDate": "20200103-"}, ["B[1]"]),
        ({"StudyDate": "-20200102"}, ["INVENTED-1"]),
        ({"StudyTime": "10-11"}, ["INVENTED-1"]),
        ({"StudyTime": "1012-"}, ["B[1]"]),
        ({"StudyTime": "101112"}, ["INVENTED-1"]),
        ({"ModalitiesInStudy": "MR", "StudyDate": "20210304"}, ["B[1]"]),
        ({"ModalitiesInStudy": "CT"}, []),
        ({"AccessionNumber": "A0001", "PatientID": "B*"}, ["B[1]"]),
    ],
)
def test_matching(web: DICOMwebClient, query: dict[str, str], patients: list[str]) -> None:
    assert values(web.search_for_studies(search_filters=query), PATIENT_ID) == patients


def test_a_series_is_told_of_as_a_series(web: DICOMwebClient, source: list[Dataset]) -> None:
    (series,) = web.search_for_series(source[0].StudyInstanceUID, fields=["all"])
    assert values([series], "0008103E") == ["t2_tse_sag"]
    assert values([series], "00200052") == [source[0].FrameOfReferenceUID]
    assert values([series], "00180015") == [source[0].BodyPartExamined]
    assert not {"00080008", "00080016", "00180081", "00280010", "00280011", "00280030", "00200037"} & set(series)
    (asked,) = web.search_for_series(source[0].StudyInstanceUID, fields=["00280010"])
    assert values([asked], "00280010") == [64]


def test_uid_lists(web: DICOMwebClient, gateway: Gateway, source: list[Dataset], second_study: list[Dataset]) -> None:
    one, two = source[0].StudyInstanceUID, second_study[0].StudyInstanceUID
    for separator in (",", "\\"):
        answer = httpx.get(f"{gateway.url}/dicom-web/studies", params={"StudyInstanceUID": f"{one}{separator}{two}"})
        assert set(values(answer.json(), STUDY)) == {one, two}
    assert values(web.search_for_studies(search_filters={"StudyInstanceUID": one}), STUDY) == [one]


def test_series_and_instances_of_a_study(web: DICOMwebClient, source: list[Dataset]) -> None:
    study, series = source[0].StudyInstanceUID, source[0].SeriesInstanceUID
    (found,) = (Dataset.from_json(item) for item in web.search_for_series(study))
    assert (found.SeriesInstanceUID, found.Modality, found.NumberOfSeriesRelatedInstances) == (series, "MR", 7)
    assert found.SeriesDescription == "t2_tse_sag"
    assert "PatientID" not in found
    instances = web.search_for_instances(study, series)
    expected = sorted(source, key=lambda ds: int(ds.InstanceNumber))
    assert values(instances, INSTANCE) == [ds.SOPInstanceUID for ds in expected]
    first = Dataset.from_json(instances[0])
    assert (first.Rows, first.Columns, first.BitsAllocated) == (64, 64, 16)
    assert first.SOPClassUID == expected[0].SOPClassUID
    assert first.AvailableTransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert values(web.search_for_instances(study), INSTANCE) == values(instances, INSTANCE)


def test_searches_across_studies_tell_the_study(web: DICOMwebClient, second_study: list[Dataset]) -> None:
    (series,) = web.search_for_series(search_filters={"SeriesNumber": "9"})
    assert values([series], PATIENT_ID) == ["B[1]"]
    uid = second_study[2].SOPInstanceUID
    (instance,) = web.search_for_instances(search_filters={"SOPInstanceUID": uid})
    assert values([instance], INSTANCE) == [uid]
    assert values([instance], PATIENT_ID) == ["B[1]"]
    assert values([instance], SERIES) == [second_study[0].SeriesInstanceUID]


def test_more_attributes_on_request(web: DICOMwebClient, gateway: Gateway) -> None:
    (study,) = web.search_for_studies(fields=["StudyDescription", "00101010"], search_filters={"PatientID": "INVENTED-1"})
    assert values([study], "00081030") == ["Lumbar spine"]
    assert values([study], "00101010") == ["050Y"]
    instances = web.search_for_instances(fields=["all"], limit=1)
    assert values(instances, "00180081") == [102.0]
    assert "7FE00010" not in instances[0]
    unknown = httpx.get(f"{gateway.url}/dicom-web/studies?includefield=EchoTime")
    assert "includefield" in unknown.headers["warning"]


def test_pages(web: DICOMwebClient, gateway: Gateway) -> None:
    everything = values(web.search_for_instances(), INSTANCE)
    assert len(everything) == 12
    paged = [values(web.search_for_instances(limit=5, offset=offset), INSTANCE) for offset in (0, 5, 10)]
    assert [uid for page in paged for uid in page] == everything
    url = f"{gateway.url}/dicom-web/instances"
    assert "additional results" in httpx.get(url, params={"limit": 5}).headers["warning"]
    assert "warning" not in httpx.get(url, params={"limit": 12}).headers
    assert httpx.get(url, params={"offset": 12}).status_code == 204
    assert values(web.search_for_instances(get_remaining=True, limit=5), INSTANCE) == everything


def test_nothing_found_is_no_content(web: DICOMwebClient, gateway: Gateway) -> None:
    assert httpx.get(f"{gateway.url}/dicom-web/studies?PatientID=nobody").status_code == 204
    assert web.search_for_series("1.2.3") == []
    fuzzy = httpx.get(f"{gateway.url}/dicom-web/studies?PatientName=invanted&fuzzymatching=true")
    assert (fuzzy.status_code, "fuzzymatching" in fuzzy.headers["warning"]) == (204, True)


@pytest.mark.parametrize(
    "path",
    [
        "studies?Modality=MR",
        "studies?SOPInstanceUID=1.2",
        "studies?InstitutionName=x",
        "studies?StudyDate=today",
        "studies?StudyDate=20200101-x",
        "studies?StudyTime=25h",
        "studies?StudyInstanceUID=1.2;3",
        "series?SeriesNumber=one",
        "studies?limit=-1",
        "studies?offset=x",
        "studies?PatientID=*a*b*c*d*e*f*g*h*i*",
        "studies?limit=\u0661\u0662",
        "studies?StudyDate=99999999",
        "studies?StudyDate=20230229-",
        "studies?StudyDate=2020\u0660101",
        "studies?StudyTime=250000",
        "studies?StudyTime=0900-0960",
        "studies?fuzzymatching=x",
        "studies?StudyInstanceUID=1..2",
        "studies?StudyInstanceUID=1.2,.3",
        "studies/1..2/series?limit=1",
        "studies/1.2/series/x/instances?limit=1",
        "studies?PatientName=A%00*",
        "studies?StudyDescription=A%00",
    ],
)
def test_queries_that_cannot_be_carried_out_are_refused_without_their_values(gateway: Gateway, path: str) -> None:
    answer = httpx.get(f"{gateway.url}/dicom-web/{path}")
    assert answer.status_code == 400
    assert answer.json()["type"].endswith("/bad-query")
    assert path.partition("=")[2] not in answer.json()["title"]


def test_only_json_is_given(gateway: Gateway) -> None:
    url = f"{gateway.url}/dicom-web/studies"
    assert httpx.get(url, headers={"Accept": 'multipart/related; type="application/dicom+xml"'}).status_code == 406
    assert httpx.get(url, headers={"Accept": "application/json"}).status_code == 200
    assert httpx.get(url + "?accept=application/dicom%2Bxml").status_code == 406


def test_a_series_stored_again_with_other_content_is_found_once(web: DICOMwebClient, source: list[Dataset]) -> None:
    web.store_instances(source[:6])
    (series,) = web.search_for_series(source[0].StudyInstanceUID)
    assert values([series], "00201209") == [6]


def test_what_is_deleted_is_not_found(web: DICOMwebClient, gateway: Gateway, second_study: list[Dataset]) -> None:
    kept = gateway.ledger.source_of(second_study[0].SeriesInstanceUID)
    assert kept is not None
    httpx.delete(f"{gateway.url}/v1/series/{kept.id}").raise_for_status()
    assert web.search_for_series(second_study[0].StudyInstanceUID) == []
    assert len(web.search_for_studies()) == 1


def test_nothing_is_found_of_a_patient_whose_series_and_jobs_are_deleted(
    gateway: Gateway, web: DICOMwebClient, tmp_path: Path
) -> None:
    def whose(ds: Any, index: int) -> None:
        ds.PatientID, ds.PatientName = "GONE-1", "Gone^Patient"
        ds.StudyInstanceUID = "1.2.3.99"

    size: dict[str, Any] = {"slices": 5, "rows": 64, "columns": 64, "spacing_mm": (4.4, 2.0, 2.0), "mutate": whose}
    web.store_instances([dcmread(path) for path in make_series(tmp_path / "in", **size, seed=11)])
    (series,) = web.search_for_series("1.2.3.99")
    kept = gateway.ledger.source_of(series["0020000E"]["Value"][0])
    assert kept is not None
    jobs = [gateway.finish_job(kept.id, make_series(tmp_path / f"out{n}", **size, seed=12 + n)) for n in range(2)]
    assert len(web.search_for_series(search_filters={"PatientID": "GONE-1"})) == 3
    httpx.delete(f"{gateway.url}/v1/jobs/{jobs[0]}").raise_for_status()
    assert len(web.search_for_series(search_filters={"PatientID": "GONE-1"})) == 2
    httpx.delete(f"{gateway.url}/v1/series/{kept.id}?results=delete").raise_for_status()
    assert web.search_for_studies(search_filters={"PatientID": "GONE-1"}) == []
    assert httpx.get(f"{gateway.url}/dicom-web/studies/1.2.3.99").status_code == 404
    with gateway.ledger.read() as session:
        tables = session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table'")).all()
        content = repr([session.execute(text(f"SELECT * FROM {table}")).all() for table in tables])
    assert "gone" not in content.lower()
    due = due_discards(gateway.ledger, utc_now())
    for prefix in due:  # as the reaper does
        gateway.artifacts.delete_prefix(prefix)
        gateway.ledger.mark_discarded(prefix)
    # Not even in the free pages of the database, or in its log.
    left = [path for path in gateway.settings.data_dir.rglob("*") if path.is_file() and b"Gone^Patient" in path.read_bytes()]
    assert left == []


def test_every_group_of_a_name_is_matched(gateway: Gateway, web: DICOMwebClient, tmp_path: Path) -> None:
    def whose(ds: Any, _index: int) -> None:
        ds.SpecificCharacterSet, ds.StudyInstanceUID = "ISO_IR 192", "1.2.392.1"
        ds.PatientID, ds.PatientName = "J-1", "Yamada^Tarou=山田^太郎=やまだ^たろう"

    size: dict[str, Any] = {"slices": 5, "rows": 64, "columns": 64, "spacing_mm": (4.4, 2.0, 2.0)}
    web.store_instances([dcmread(path) for path in make_series(tmp_path, **size, seed=21, mutate=whose)])
    cases = {
        "yamada^tarou": True,
        "山田^太郎": True,
        "やまだ*": True,
        "YAMADA*=山田*": True,
        "==やまだ^たろう": True,
        "=山田*=": True,
        "山田*=": False,
        "Yamada*=鈴木*": False,
        "ya*郎": False,
    }
    for name, found in cases.items():
        for search in (web.search_for_studies, web.search_for_series, web.search_for_instances):
            filters = {"PatientName": name, "StudyInstanceUID": "1.2.392.1"}
            assert bool(search(search_filters=filters)) is found, name
    assert httpx.get(f"{gateway.url}/dicom-web/studies", params={"PatientName": "a=b=c=d"}).status_code == 400
