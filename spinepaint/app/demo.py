"""The demonstration: an invented series through the whole service over HTTP, on a free loopback port."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

import httpx

from spinepaint.app import leash
from spinepaint.app.cli.output import Report
from spinepaint.app.problems import refusal_in
from spinepaint.app.serve import READY

SEED = 20
SPEC = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "moderate_large", "seed": 0}
STOP_TIMEOUT_S = 30.0


def demonstrate(out: Path, report: Report, pipeline: str | None = None) -> dict[str, Any]:
    """Make a series, have it painted by a service of its own, and leave everything in `out`.

    `out` afterwards has `source/`, `series/`, `labels/`, `report.json` and `preview.png`; what an
    earlier run left there is replaced. `pipeline` is handed to the service. Returns the report.
    Raises Refusal when the service refuses.
    """
    from spinepaint.training.phantom import make_phantom, write_series

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".demo-", dir=out.parent) as scratch:
        folder = Path(scratch)
        report("making the series", 0.0)
        write_series(make_phantom(SEED), folder / "result" / "source", seed=SEED)
        with _service(folder / "data", pipeline) as url, httpx.Client(base_url=url, timeout=120) as client:
            submitted = _submit(client, sorted((folder / "result" / "source").rglob("*.dcm")))
            job = _finished(client, submitted, report)
            _fetch(client, job["links"]["result"], folder)
            document = _checked(client.get(job["links"]["report"])).json()
        _unpack(folder / "result.zip", folder / "result")
        shutil.rmtree(out, ignore_errors=True)
        (folder / "result").rename(out)
    return dict(document)


@contextmanager
def _service(data: Path, pipeline: str | None) -> Iterator[str]:
    """A service in a process of its own; yields its URL, and ends it."""
    data.mkdir()
    # On a leash, so that a demo that is killed leaves no service running.
    argv = [sys.executable, "-I", leash.__file__, str(os.getpid())]
    argv += [sys.executable, "-m", "spinepaint.app.cli", "serve", "--port", "0", "--data", str(data)]
    argv += [] if pipeline is None else ["--pipeline", pipeline]
    with (data / "service.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            argv, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True
        )
    try:
        line = cast(IO[str], process.stdout).readline().strip()
        if not line.startswith(READY):
            raise OSError(None, "the service did not start")
        yield line.removeprefix(READY)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _submit(client: httpx.Client, files: list[Path]) -> dict[str, Any]:
    with ExitStack() as stack:
        parts = [("files", (path.name, stack.enter_context(path.open("rb")))) for path in files]
        series = _checked(client.post("/v1/series", files=parts)).json()
    return dict(_checked(client.post("/v1/jobs", json={"series_id": series["id"], **SPEC})).json())


def _finished(client: httpx.Client, job: dict[str, Any], report: Report) -> dict[str, Any]:
    """Follow the job's events to its end; the job as it is then."""
    with client.stream("GET", job["links"]["events"], timeout=None) as events:
        for line in events.iter_lines():
            if line.startswith("data:"):
                data = json.loads(line.removeprefix("data:"))
                report(data.get("stage") or data.get("state", ""), data.get("progress", 0.0))
    view: dict[str, Any] = _checked(client.get(job["links"]["self"])).json()
    if view["state"] != "succeeded":
        raise refusal_in(view["problem"] or {"title": f"The job ended as {view['state']}."})
    report("done", 1.0)
    return view


def _fetch(client: httpx.Client, link: str, folder: Path) -> None:
    with client.stream("GET", link) as response, (folder / "result.zip").open("wb") as file:
        for chunk in _checked(response).iter_bytes():
            file.write(chunk)


def _unpack(archive: Path, folder: Path) -> None:
    """The first sample's files into `folder` itself."""
    with zipfile.ZipFile(archive) as members:
        members.extractall(folder)
    for item in (folder / "sample-01").iterdir():
        item.rename(folder / item.name)
    (folder / "sample-01").rmdir()


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_error:
        response.read()
        raise refusal_in(response.json())
    return response
