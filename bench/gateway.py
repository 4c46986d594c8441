"""What the gateway costs: resident memory of a running service's gateway, before and after a job; whether it holds torch."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from spinepaint.training.phantom import make_phantom, write_series

READY = "Spinepaint listens on "
SPEC = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small", "steps": 2}


def measure() -> dict[str, float]:
    """MiB after start and after an upload with its job and result. Target: under 150, torch not mapped."""
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
                accept_s = _job(url, paths)
                worked = gateway.memory_info().rss
                torch = any("libtorch" in part.path for part in gateway.memory_maps())
            finally:
                service.terminate()
                service.wait(60)
    return {
        "resident_mib_started": started / 2**20,
        "resident_mib_after_a_job": worked / 2**20,
        "torch_mapped": float(torch),
        "upload_and_submit_s": accept_s,
    }


def _job(url: str, paths: list[Path]) -> float:
    with httpx.Client(base_url=url, timeout=300) as client:
        files = [("files", (path.name, path.read_bytes())) for path in paths]
        began = time.perf_counter()
        job = client.post("/v1/inpaint", files=files, data={"spec": json.dumps(SPEC)}).raise_for_status().json()
        accept_s = time.perf_counter() - began
        while job["state"] not in ("succeeded", "failed"):
            time.sleep(0.5)
            job = client.get(f"/v1/jobs/{job['id']}").raise_for_status().json()
        if job["state"] == "failed":
            raise RuntimeError(str(job["problem"]))
        client.get(f"/v1/jobs/{job['id']}/result").raise_for_status()
    return accept_s
