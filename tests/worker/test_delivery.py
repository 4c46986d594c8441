"""Finished jobs on their way to destinations that are well, slow, full, unwilling or away."""

import logging
import multiprocessing
import socket
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from spinepaint.destinations import StowDestination
from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore, DicomDelivery, Ledger
from spinepaint.store.database import utc_now
from spinepaint.worker.delivery import Deliverer, DeliveryThread
from tests.imaging.series_factory import make_series
from tests.worker.offices import SECRET, SIZE, Office, node_at, stow
from tests.worker.receivers import WebReceiver, referenced, store_node
from tests.worker.workplaces import open_stores, wait_until


def failed(*reasons: int) -> dict[str, Any]:
    items = [referenced(["1.2"], **{"00081197": {"vr": "US", "Value": [code]}})["00081199"]["Value"][0] for code in reasons]
    return {"00081198": {"vr": "SQ", "Value": items}}


def test_everything_goes_in_one_store_request(office: Office, web: WebReceiver, files: list[Path]) -> None:
    assert office.state() == ("pending", 0)
    assert office.towards(stow(web.url)).deliver_due() == 1
    assert sorted(web.parts()) == sorted(path.read_bytes() for path in files)
    (headers,) = web.headers
    assert headers["path"] == "/dicom-web/studies"
    assert headers["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')
    assert headers["authorization"] == SECRET
    delivery = office.delivery()
    assert (delivery.state, delivery.attempts, delivery.problem, delivery.due_at) == ("delivered", 1, None, None)
    assert delivery.delivered_at is not None
    assert office.towards(stow(web.url)).deliver_due() == 0


def test_a_busy_service_is_tried_again_later_and_gets_the_same(office: Office, web: WebReceiver) -> None:
    web.answers = [(503, b"busy"), (202, failed(0xA700)), (200, "all")]
    deliverer = office.towards(stow(web.url), delivery_retry_s=100.0)
    for attempt, wait_s in ((1, 100), (2, 200)):
        assert deliverer.deliver_due() == 1
        assert office.state() == ("pending", attempt)
        due_at = office.delivery().due_at
        assert due_at is not None
        assert timedelta(seconds=wait_s - 20) < due_at - utc_now() <= timedelta(seconds=wait_s)
        assert deliverer.deliver_due() == 0
        make_due(office)
    assert "A700H" in office.detail()
    assert deliverer.deliver_due() == 1
    assert office.state() == ("delivered", 3)
    assert web.parts(0) == web.parts(1) == web.parts(2)


def make_due(office: Office) -> None:
    from sqlalchemy import update

    with office.ledger.write() as session:
        session.execute(update(DicomDelivery).values(due_at=utc_now() - timedelta(seconds=1)))


def test_after_so_many_tries_it_fails_until_someone_asks_again(office: Office, web: WebReceiver) -> None:
    web.answers = [(500, b"")]
    deliverer = office.towards(stow(web.url), delivery_attempts=2)
    assert [deliverer.deliver_due() for _ in range(3)] == [1, 1, 0]
    assert office.state() == ("failed", 2)
    assert "HTTP status 500" in office.detail()
    assert office.ledger.redeliver(office.job.id, "pacs")
    assert not office.ledger.redeliver(office.job.id, "pacs")
    web.answers = [(200, "all")]
    deliverer.deliver_due()
    assert office.state() == ("delivered", 1)
    assert not office.ledger.redeliver(office.job.id, "pacs")


@pytest.mark.parametrize(
    ("status", "answer", "detail"),
    [
        (409, failed(0xA900, 0xC000, 0xA900), "3 of 5 instances with Failure Reason A900H, C000H"),
        (202, failed(0x0122), "0122H"),
        (401, b"", "status 401"),
        (404, b"<html>", "status 404"),
        (302, b"", "status 302"),
        (202, failed(0xA700, 0xA900), "A900H"),
    ],
)
def test_a_refusal_for_good_is_not_repeated(office: Office, web: WebReceiver, status: int, answer: Any, detail: str) -> None:
    web.answers = [(status, answer)]
    office.towards(stow(web.url)).deliver_due()
    assert office.state() == ("failed", 1)
    assert detail in office.detail()


@pytest.mark.parametrize("status", [200, 202])
def test_what_the_destination_has_from_an_earlier_try_counts(
    office: Office, web: WebReceiver, files: list[Path], status: int
) -> None:
    uids = [str(dcmread(path).SOPInstanceUID) for path in files]
    duplicates = referenced(uids[:2], "00081198", **{"00081197": {"vr": "US", "Value": [0x0111]}})
    web.answers = [(status, [referenced(uids[2:]) | duplicates])]
    office.towards(stow(web.url)).deliver_due()
    assert office.state() == ("delivered", 1)


@pytest.mark.parametrize("answer", [b"", b"<html>", {}, {"00081199": {"vr": "SQ"}}, referenced(["1.2"]), [], [[]], 7])
def test_a_success_that_names_no_instances_is_none(office: Office, web: WebReceiver, answer: Any) -> None:
    web.answers = [(200, answer)]
    office.towards(stow(web.url)).deliver_due()
    assert office.state() == ("failed", 1)
    assert "5 of 5 instances" in office.detail()


def test_a_service_that_is_away_or_silent(office: Office, web: WebReceiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nowhere = taken.getsockname()[1]
    away = StowDestination.model_validate({"type": "stow", "url": f"http://127.0.0.1:{nowhere}"})
    office.towards(away).deliver_due()
    assert office.state() == ("pending", 1)
    assert "did not answer" in office.detail()
    web.hold = threading.Event()
    office.towards(stow(web.url), delivery_timeout_s=0.3).deliver_due()
    web.hold.set()
    assert office.state() == ("pending", 2)
    office.towards(node_at(nowhere)).deliver_due()
    assert office.state() == ("pending", 3)
    assert "No association" in office.detail()


def test_a_destination_that_the_settings_lost(office: Office) -> None:
    office.settings = office.settings.model_copy(update={"delivery_retry_s": 0.0})
    Deliverer(office.ledger, office.artifacts, office.settings).deliver_due()
    assert office.state() == ("pending", 1)
    assert "do not name" in office.detail()


def test_everything_goes_over_one_association(office: Office, files: list[Path]) -> None:
    with store_node() as node:
        office.towards(node_at(node.port)).deliver_due()
    assert office.state() == ("delivered", 1)
    assert set(node.calling) == {"SPINEPAINT"}
    sent = {ds.SOPInstanceUID: ds for ds in map(dcmread, files)}
    assert {ds.SOPInstanceUID for ds in node.received} == set(sent)
    assert all(ds == sent[ds.SOPInstanceUID] for ds in node.received)
    assert {syntax for _, syntax in node.contexts} == {ExplicitVRLittleEndian}


def test_a_node_that_takes_implicit_little_endian_only(office: Office, files: list[Path]) -> None:
    with store_node(syntaxes=[ImplicitVRLittleEndian]) as node:
        office.towards(node_at(node.port)).deliver_due()
    assert office.state() == ("delivered", 1)
    assert {ds.PixelData for ds in node.received} == {dcmread(path).PixelData for path in files}


def test_a_sender_of_before_a_delivery_was_asked_for_again_says_nothing_of_it(office: Office) -> None:
    ledger, minute = office.ledger, timedelta(minutes=1)

    def taken(lease: timedelta) -> DicomDelivery:
        (due,) = ledger.due_dicom_deliveries(utc_now())
        taken = ledger.take_dicom_delivery(due, lease)
        assert taken is not None
        return taken

    late, last = taken(timedelta(0)), taken(minute)
    assert ledger.fail_dicom_delivery(last, {"status": 502}, None)
    assert ledger.redeliver(office.job.id, "pacs")
    now = taken(minute)
    assert (late.attempts, now.attempts) == (1, 1)
    assert not ledger.hold_dicom_delivery(late, minute)
    assert not ledger.end_dicom_delivery(late)
    assert office.state() == ("pending", 1)
    assert ledger.end_dicom_delivery(now)


def test_compressed_instances_are_offered_as_they_are(tmp_path: Path) -> None:
    compressed = make_series(tmp_path / "rle", **SIZE, transfer_syntax=RLELossless)
    office = Office(Settings(data_dir=tmp_path), *open_stores(tmp_path), compressed)
    office.finish()
    with store_node(syntaxes=[ExplicitVRLittleEndian]) as node:
        office.towards(node_at(node.port)).deliver_due()
    assert office.state() == ("failed", 1)
    assert "none of the SOP classes" in office.detail()
    office.ledger.redeliver(office.job.id, "pacs")
    with store_node(syntaxes=[RLELossless]) as node:
        office.towards(node_at(node.port)).deliver_due()
    assert office.state() == ("delivered", 1)
    assert len(node.received) == 5
    office.ledger.close()


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (0x0111, "delivered"),
        (0xB000, "delivered"),
        (0xA700, "pending"),
        (0x0110, "pending"),
        (0xA900, "failed"),
        (0xC000, "failed"),
    ],
)
def test_what_a_status_means(office: Office, code: int, state: str) -> None:
    with store_node() as node:
        node.status = lambda number: code if number == 3 else 0
        office.towards(node_at(node.port)).deliver_due()
    assert office.state() == (state, 1)
    if state != "delivered":
        assert f"instance 3 of 5 with status {code:04X}H" in office.detail()


def test_a_node_of_another_name_or_for_other_objects(office: Office) -> None:
    with store_node(ae_title="OTHER") as node:
        office.towards(node_at(node.port)).deliver_due()
    assert office.state() == ("failed", 1)
    assert "ARCHIVE" in office.detail()
    office.ledger.redeliver(office.job.id, "pacs")
    with store_node(sop_classes=["1.2.840.10008.5.1.4.1.1.2"]) as node:
        office.towards(node_at(node.port)).deliver_due()
    assert office.state() == ("failed", 1)
    assert "none of the SOP classes" in office.detail()


def test_a_job_without_a_result_delivers_nothing(tmp_path: Path, files: list[Path], web: WebReceiver) -> None:
    office = Office(Settings(data_dir=tmp_path), *open_stores(tmp_path), files)
    office.finish(succeed=False)
    assert office.towards(stow(web.url)).deliver_due() == 0
    problem = office.delivery().problem
    assert (office.delivery().state, problem and problem["type"].rsplit("/")[-1]) == ("failed", "no-result")
    assert not office.ledger.redeliver(office.job.id, "pacs")
    cancelled = office.ledger.submit_job(str(office.job.series_id), {}, destination="pacs")
    office.ledger.cancel(cancelled.id)
    assert office.ledger.dicom_deliveries([cancelled.id])[0].state == "failed"
    office.ledger.close()


def test_one_sender_at_a_time_and_a_late_one_changes_nothing(office: Office) -> None:
    (due,) = office.ledger.due_dicom_deliveries(utc_now())
    first = office.ledger.take_dicom_delivery(due, timedelta(seconds=0.1))
    assert first is not None
    assert office.ledger.take_dicom_delivery(due, timedelta(minutes=1)) is None
    assert office.ledger.hold_dicom_delivery(first, timedelta(seconds=0.1))
    time.sleep(0.2)
    (again,) = office.ledger.due_dicom_deliveries(utc_now())
    second = office.ledger.take_dicom_delivery(again, timedelta(minutes=1))
    assert second is not None
    assert second.attempts == 2
    assert not office.ledger.hold_dicom_delivery(first, timedelta(minutes=1))
    assert not office.ledger.end_dicom_delivery(first)
    assert not office.ledger.fail_dicom_delivery(first, {}, None)
    assert office.ledger.end_dicom_delivery(second)


def test_a_sender_that_is_slow_keeps_its_delivery(office: Office, web: WebReceiver) -> None:
    web.hold = threading.Event()
    deliverer = office.towards(stow(web.url))
    deliverer._lease = timedelta(seconds=4)  # renewed each second
    sending = threading.Thread(target=deliverer.deliver_due)
    sending.start()
    assert web.asked.wait(120)
    first_due = office.delivery().due_at
    assert first_due is not None
    wait_until(lambda: (office.delivery().due_at or first_due) > first_due)
    assert office.ledger.due_dicom_deliveries(utc_now()) == []
    web.hold.set()
    sending.join()
    assert office.state() == ("delivered", 1)


def _deliver(settings: Settings) -> None:
    Deliverer(Ledger(settings.database_url), ArtifactStore(settings.artifacts_url), settings).deliver_due()


def test_a_killed_sender_costs_a_try_and_no_delivery(office: Office, web: WebReceiver, files: list[Path]) -> None:
    web.hold = threading.Event()
    office.towards(stow(web.url), delivery_timeout_s=1.0)
    sender = multiprocessing.get_context("spawn").Process(target=_deliver, args=(office.settings,))
    sender.start()
    assert web.asked.wait(120)
    sender.kill()
    sender.join()
    web.hold.set()
    assert office.state() == ("pending", 1)
    deliverer = office.towards(stow(web.url))
    wait_until(lambda: deliverer.deliver_due() == 1)
    assert office.state() == ("delivered", 2)
    assert sorted(web.parts()) == sorted(path.read_bytes() for path in files)


def test_a_delivery_that_kills_every_sender_ends(office: Office, web: WebReceiver) -> None:
    deliverer = office.towards(stow(web.url), delivery_attempts=2)
    for _ in range(2):
        (due,) = office.ledger.due_dicom_deliveries(utc_now())
        assert office.ledger.take_dicom_delivery(due, timedelta(0)) is not None
    deliverer.deliver_due()
    assert office.delivery().state == "failed"
    assert "stopped without a word" in office.detail()
    assert web.bodies == []


def test_the_thread_delivers_what_becomes_due(office: Office, web: WebReceiver) -> None:
    office.towards(stow(web.url), announce_every_s=0.05)
    thread = DeliveryThread(office.settings)
    thread.start()
    wait_until(lambda: office.state() == ("delivered", 1))
    thread.stop(10.0)


def test_neither_patient_nor_secret_is_logged(office: Office, web: WebReceiver, caplog: pytest.LogCaptureFixture) -> None:
    web.answers = [(500, b"Invented^Patient")]
    with caplog.at_level(logging.DEBUG):
        office.towards(stow(web.url)).deliver_due()
        with store_node(sop_classes=["1.2.840.10008.5.1.4.1.1.2"]) as node:
            office.towards(node_at(node.port)).deliver_due()
    said = caplog.text + str(office.delivery().problem)
    assert "try 1 of 8 to deliver to pacs failed" in said
    assert "nvented" not in said
    assert "do-not-log-me" not in said
