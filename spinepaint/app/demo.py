"""The demonstration: an invented series through the whole service over HTTP, on a free loopback port."""

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

from spinepaint.app.cli.output import Report
from spinepaint.app.serve import READY
from spinepaint.imaging.errors import Refusal

SEED = 20
SPEC = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "moderate_large", "seed": 0}
STOP_TIMEOUT_S = 30.0


def demonstrate(out: Path, report: Report) -> dict[str, Any]:
    """Make a series, have it painted by a service of its own, and leave everything in `out`.

    `out` afterwards has `source/`, `series/`, `labels/`, `report.json` and `preview.png`; what an
    earlier run left there is replaced. Returns the report. Raises Refusal when the service refuses.
    """
    from spinepaint.training.phantom import make_phantom, write_series

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".demo-", dir=out.parent) as scratch:
        folder = Path(scratch)
        report("making the series", 0.0)
        write_series(make_phantom(SEED), folder / "result" / "source", seed=SEED)
        with _service(folder / "data") as url, httpx.Client(base_url=url, timeout=120) as client:
            job = _submit(client, sorted((folder / "result" / "source").rglob("*.dcm")))
            _wait(client, job, report)
            _fetch(client, job["links"]["result"], folder)
            document = _checked(client.get(job["links"]["report"])).json()
        _unpack(folder / "result.zip", folder / "result")
        shutil.rmtree(out, ignore_errors=True)
        (folder / "result").rename(out)
    return dict(document)


@contextmanager
def _service(data: Path) -> Iterator[str]:
    """A service in a process of its own; yields its URL, and ends it."""
    data.mkdir()
    argv = [sys.executable, "-m", "spinepaint.app.cli", "serve", "--port", "0", "--data", str(data)]
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


def _wait(client: httpx.Client, job: dict[str, Any], report: Report) -> None:
    """Follow the job's events to its end."""
    with client.stream("GET", job["links"]["events"], timeout=None) as events:
        for line in events.iter_lines():
            if line.startswith("data:"):
                state = _checked(client.get(job["links"]["self"])).json()
                report(state["stage"] or state["state"], state["progress"])
    problem = _checked(client.get(job["links"]["self"])).json().get("problem")
    if problem:
        raise Refusal("demo-failed", problem["title"], problem.get("detail", ""), status=problem["status"])


def _fetch(client: httpx.Client, link: str, folder: Path) -> None:
    with client.stream("GET", link) as response, (folder / "result.zip").open("wb") as file:
        for chunk in response.iter_bytes():
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
        problem = response.json()
        raise Refusal(problem["type"].rsplit("/", 1)[-1], problem["title"], problem.get("detail", ""), status=problem["status"])
    return response
