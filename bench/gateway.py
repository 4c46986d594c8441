"""What the gateway costs: seconds from an upload to its job, from a cancel to a free worker, imports, and resident memory.

Seconds of the CPU are told beside those of the clock, since these depend on what else the machine does.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from spinepaint.training.phantom import make_phantom, write_series

READY = "Spinepaint listens on "
SPEC = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small", "steps": 2}
UPLOADS, CANCELS = 5, 3
IMPORT_TARGET_S = 1.0
SERVED = "spinepaint.app.gateway, spinepaint.app.serve, spinepaint.app.cli"
"""What `spinepaint serve` has imported once it answers."""


def measure() -> dict[str, float]:
    """Targets: an upload of 17 slices and its job within 0.5 s; `import spinepaint.app` within 1 s, which is asserted; the
    gateway under 150 MiB, torch not mapped; a worker that samples is free within 2 s of a cancel.

    The first upload comes while the worker still imports torch beside it; of the later ones it is the median.
    """
    import_app_s = _import_cpu_s("spinepaint.app")
    assert import_app_s < IMPORT_TARGET_S, f"import spinepaint.app took {import_app_s:.2f} s of the CPU"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = write_series(make_phantom(4, slices=17, matrix=384), folder / "source", seed=4)
        command = [sys.executable, "-m", "spinepaint.app.cli", "serve", "--port", "0", "--data", str(folder / "data")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as service:
            try:
                assert service.stdout is not None
                url = service.stdout.readline().strip().removeprefix(READY)
                gateway = psutil.Process(service.pid)
                started = gateway.memory_info().rss
                with httpx.Client(base_url=url, timeout=300) as client:
                    first_s, job = _accepted(client, paths)
                    _ended(client, job)
                    worked = gateway.memory_info().rss
                    before, taken = _cpu_s(gateway), []
                    for _ in range(UPLOADS):
                        seconds, job = _accepted(client, paths)
                        taken.append(seconds)
                        client.post(f"/v1/jobs/{job['id']}/cancel")
                    cpu_s = (_cpu_s(gateway) - before) / UPLOADS
                    freed = [_freed_s(client, paths) for _ in range(CANCELS)]
                torch = any("libtorch" in part.path for part in gateway.memory_maps())
            finally:
                service.terminate()
                service.wait(60)
    return {
        "import_app_cpu_s": import_app_s,
        "import_gateway_cpu_s": _import_cpu_s(SERVED),
        "resident_mib_started": started / 2**20,
        "resident_mib_after_a_job": worked / 2**20,
        "torch_mapped": float(torch),
        "upload_and_submit_first_s": first_s,
        "upload_and_submit_s": sorted(taken)[UPLOADS // 2],
        "upload_submit_cancel_gateway_cpu_s": cpu_s,
        "cancel_while_sampling_to_next_start_s": sorted(freed)[CANCELS // 2],
        "cancel_while_sampling_to_next_start_longest_s": max(freed),
    }


def _import_cpu_s(modules: str) -> float:
    """Seconds of the CPU for an import, without those of starting Python; the least of three."""
    program = f"import time; import {modules}; print(time.process_time())"
    taken = [float(subprocess.check_output([sys.executable, "-c", program])) for _ in range(3)]
    bare = float(subprocess.check_output([sys.executable, "-c", "import time; print(time.process_time())"]))
    return min(taken) - bare


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _freed_s(client: httpx.Client, paths: list[Path]) -> float:
    """Seconds from when a job that samples is cancelled until its worker has taken the next, by the ledger's times."""
    _, cancelled = _accepted(client, paths, steps=200)
    _, following = _accepted(client, paths)
    began = _until(client, cancelled, lambda job: job["stage"] == "sample")["progress"]
    _until(client, cancelled, lambda job: job["progress"] > began)
    ended = client.post(f"/v1/jobs/{cancelled['id']}/cancel").raise_for_status().json()["finished_at"]
    started = _until(client, following, lambda job: job["started_at"] is not None)["started_at"]
    _until(client, following, lambda job: job["finished_at"] is not None)
    return (datetime.fromisoformat(started) - datetime.fromisoformat(ended)).total_seconds()


def _accepted(client: httpx.Client, paths: list[Path], **more: int) -> tuple[float, dict[str, Any]]:
    files = [("files", (path.name, path.read_bytes())) for path in paths]
    began = time.perf_counter()
    job = client.post("/v1/inpaint", files=files, data={"spec": json.dumps(SPEC | more)}).raise_for_status().json()
    return time.perf_counter() - began, job


def _until(client: httpx.Client, job: dict[str, Any], holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    while not holds(job):
        time.sleep(0.1)
        job = client.get(f"/v1/jobs/{job['id']}").raise_for_status().json()
    return job


def _ended(client: httpx.Client, job: dict[str, Any]) -> None:
    job = _until(client, job, lambda job: job["finished_at"] is not None)
    if job["state"] == "failed":
        raise RuntimeError(str(job["problem"]))
    client.get(f"/v1/jobs/{job['id']}/result").raise_for_status()


if __name__ == "__main__":
    print(json.dumps(measure() | {"load": os.getloadavg()[0]}, indent=1))
