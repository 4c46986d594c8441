"""How the tests call the commands, and a pipeline that stands in for the real one."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EDIT = ["--fsu", "L4-L5", "--pathology", "disc_herniation", "--severity", "small"]
PATIENCE_S = 120.0  # for a process on a busy machine
Pipeline = Callable[..., dict[str, Any]]


def spinepaint(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "spinepaint.app.cli", *map(str, args)]
    return subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **env}, timeout=PATIENCE_S, check=False)


def use_pipeline(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    module = ModuleType("spinepaint.worker.pipeline")
    module.run_pipeline = pipeline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spinepaint.worker.pipeline", module)


def paint(source: Path, spec: Mapping[str, Any], out: Path, **options: Any) -> dict[str, Any]:
    """Stands in for the pipeline: the same files, at once."""
    (out / "sample-01" / "series").mkdir(parents=True)
    (out / "sample-01" / "report.json").write_text('{"warnings": ["painted by a stand-in"]}')
    options["progress"]("sample", 0.5)
    return {"spec": dict(spec)}
