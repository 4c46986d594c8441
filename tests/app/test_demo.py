"""The demonstration leaves what the contract says, twice in a row."""

import json
from pathlib import Path

import pytest

from spinepaint.app.demo import demonstrate

ROOT = Path(__file__).parents[2]


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    out = tmp_path / "out" / "demo"
    out.mkdir(parents=True)
    (out / "earlier").write_text("")
    heard: list[tuple[str, float]] = []
    report = demonstrate(out, lambda stage, fraction: heard.append((stage, fraction)), "tests.app.standin:paint")
    assert report == json.loads((out / "report.json").read_text())
    assert sorted(path.name for path in out.iterdir()) == ["preview.png", "report.json", "series", "source"]
    assert len(list((out / "series").iterdir())) == len(list((out / "source").iterdir()))
    assert [path.name for path in out.parent.iterdir()] == ["demo"]
    assert heard[-1] == ("done", 1.0)
