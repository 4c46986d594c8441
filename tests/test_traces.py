"""One trace from the request to what is delivered, with nothing in it of a patient; and nothing where nobody asks for traces."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom
import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from spinepaint.app.gateway import create_app
from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore, Ledger, migrate
from spinepaint.store.database import utc_now
from spinepaint.traces import current_trace, span, start_tracing, stop_tracing
from spinepaint.training.phantom import make_phantom, write_series
from spinepaint.webhook_settings import WebhookSettings
from spinepaint.worker.pipeline import run_pipeline
from spinepaint.worker.runner import Outcome, Workplace, run_job
from spinepaint.worker.webhooks import WebhookSender
from tests.training.tiny_bundle import write_tiny_bundle
from tests.worker.receivers import web_receiver

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
PATIENT = "Doe^Jane"
STAGES = {"read", "localise", "landmark", "crop", "sample", "paste", "verify", "write"}


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    start_tracing("", "test", exporter)
    yield exporter
    stop_tracing()


def sent(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    stop_tracing()
    return list(exporter.get_finished_spans())


def named(spans: Sequence[ReadableSpan], name: str) -> ReadableSpan:
    (found,) = [span for span in spans if span.name == name]
    return found


def parent_of(spans: Sequence[ReadableSpan], child: ReadableSpan) -> str | None:
    ids = {span.context.span_id: span.name for span in spans if span.context is not None}
    return ids.get(child.parent.span_id) if child.parent is not None else None


def _series(folder: Path) -> tuple[list[tuple[str, tuple[str, bytes]]], list[float]]:
    phantom = make_phantom(11, slices=9, matrix=192)
    files = []
    for path in write_series(phantom, folder, seed=11):
        ds = pydicom.dcmread(path)
        ds.PatientName = ds.PatientID = PATIENT
        ds.save_as(path)
        files.append(("files", (f"{PATIENT}-{path.name}", path.read_bytes())))
    return files, list(phantom.disc_centres_lps_mm["L4-L5"])


def test_a_job_is_one_trace_from_its_request_to_its_webhook(exporter: InMemorySpanExporter, tmp_path: Path) -> None:
    webhook = WebhookSettings(secret="whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")  # type: ignore[arg-type]
    settings = Settings(data_dir=tmp_path / "data", traces_url="http://127.0.0.1:9", webhook=webhook)
    migrate(settings.database_url)
    files, landmark = _series(tmp_path / "series")
    spec = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small", "landmark_lps_mm": landmark, "attempts": 1}
    spec |= {"callback_url": f"https://example.org/{PATIENT}".replace("^", "-")}
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client:
        headers = {"traceparent": PARENT, "tracestate": f"a={PATIENT}"}
        answer = client.post("/v1/inpaint", files=files, data={"spec": json.dumps(spec)}, headers=headers)
        job_id = answer.raise_for_status().json()["id"]
        client.get(f"/v1/jobs/{job_id}?cursor={PATIENT}")
        client.get("/health/live")
    ledger = Ledger(settings.database_url)
    bundle = write_tiny_bundle(tmp_path / "bundle")
    place = Workplace(ledger, ArtifactStore(settings.artifacts_url), run_pipeline, "w", tmp_path / "scratch", bundle)
    assert run_job(job_id, place) is Outcome.SUCCEEDED
    nowhere = WebhookSender(ledger, settings, resolve=lambda *_: [])
    assert [nowhere.send(due) for due in ledger.due_webhooks(utc_now())] == [True]
    ledger.close()

    spans = sent(exporter)
    ours = [each for each in spans if each.context is not None and f"{each.context.trace_id:032x}" == TRACE]
    request, job = named(ours, "POST /v1/inpaint"), named(ours, "job")
    assert request.parent is not None and f"{request.parent.span_id:016x}" == PARENT[36:52]
    assert parent_of(ours, job) == "POST /v1/inpaint"
    assert {each.name for each in ours if parent_of(ours, each) == "job"} == STAGES | {"fetch", "deliver"}
    assert parent_of(ours, named(ours, "webhook")) == "POST /v1/inpaint"
    assert dict(job.attributes or {}) == {"job.id": job_id, "job.attempt": 1, "job.outcome": "succeeded"}
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/inpaint",
        "http.response.status_code": 202,
    }
    assert named(ours, "webhook").status.status_code is StatusCode.ERROR  # the name of its receiver has no address
    polled = named(spans, "GET /v1/jobs/{job_id}")
    assert polled not in ours and polled.parent is None
    assert not [each for each in spans if "health" in each.name]
    told = "\n".join(each.to_json() for each in spans)
    for identifying in ("Doe", "Jane", "example.org", str(tmp_path), "1.2.826"):
        assert identifying not in told


def test_what_fails_says_by_what_kind_of_error_and_no_more(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match=PATIENT.replace("^", r"\^")), span("job"), span("sample"):
        raise ValueError(PATIENT)
    spans = sent(exporter)
    assert [(each.name, each.status.status_code, (each.attributes or {})["error.type"]) for each in spans] == [
        ("sample", StatusCode.ERROR, "ValueError"),
        ("job", StatusCode.ERROR, "ValueError"),
    ]
    assert PATIENT not in "".join(each.to_json() for each in spans)


@pytest.mark.parametrize("parent", ["", "Doe^Jane", "00-0-0-00", PARENT.replace("4", "x")])
def test_a_parent_that_is_none_begins_a_trace(exporter: InMemorySpanExporter, parent: str) -> None:
    with span("job", parent):
        mine = current_trace()
    assert mine is not None and len(mine) == 55
    (only,) = sent(exporter)
    assert only.parent is None


def test_without_traces_there_are_none(tmp_path: Path) -> None:
    with span("job", PARENT, attributes={"job.id": "1"}) as traced:
        traced.rename("x")
        traced.fail("x")
        assert current_trace() is None


def test_nothing_of_it_is_needed_where_it_is_off() -> None:
    program = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "import spinepaint.app.serve, spinepaint.worker.runner, spinepaint.worker.celery_app\n"
        "from spinepaint.traces import span, start_tracing\n"
        "start_tracing('', 'test')\n"
        "with span('job'): pass\n"
        "try: start_tracing('http://127.0.0.1:9', 'test')\n"
        "except ModuleNotFoundError as error:\n"
        "    from spinepaint.app.cli.missing import why_missing; print(why_missing(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install 'spinepaint[otel]'" in done.stdout


def test_our_own_modules_import_none_of_it() -> None:
    program = (
        "import sys; sys.modules['redis'] = None  # which imports it where it is installed\n"
        "import spinepaint.traces, spinepaint.store, spinepaint.worker.stages\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_spans_are_sent_to_a_collector() -> None:
    with web_receiver() as collector:
        collector.answers = [(200, b"")]
        start_tracing(f"{collector.url}/", "test")
        with span("job"):
            pass
        stop_tracing()
    assert collector.headers[0]["path"].endswith("/dicom-web/v1/traces")
    assert b"spinepaint-test" in collector.bodies[0] and b"job" in collector.bodies[0]
