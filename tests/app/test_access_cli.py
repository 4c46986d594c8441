"""`spinepaint keys` and `spinepaint audit`, and a service that refuses to start without a key."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from spinepaint.app.cli import app
from spinepaint.store import Ledger
from tests.app.commands import PATIENCE_S, spinepaint

run = CliRunner().invoke


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    return ["--data", str(tmp_path)]


def ledger_in(folder: Path) -> Ledger:
    return Ledger(f"sqlite:///{folder / 'ledger.sqlite3'}")


def test_a_key_is_made_shown_once_listed_and_revoked(tmp_path: Path, data: list[str]) -> None:
    options = ["--tenant", "radiology", "--scope", "read", "--expires", "90d", "--rate", "5", "--max-queued-jobs", "7"]
    made = run(app, ["keys", "create", "--name", "viewer", *options, *data])
    assert made.exit_code == 0, made.stderr
    key = made.stdout.strip()
    ledger = ledger_in(tmp_path)
    row = ledger.find_key(key)
    assert row is not None and row.expires_at is not None
    assert (row.name, row.tenant, row.scopes, row.rate_per_s, row.max_queued_jobs) == ("viewer", "radiology", ["read"], 5.0, 7)
    assert (row.expires_at - row.created_at).days in (89, 90)
    listed = run(app, ["keys", "list", *data])
    assert f"{row.id}  in force radiology  read  never used  viewer" in listed.stdout
    shown = json.loads(run(app, ["keys", "list", "--json", *data]).stdout)["keys"][0]
    assert (shown["id"], shown["state"], shown["tenant"]) == (row.id, "in force", "radiology")
    assert key not in listed.stdout + json.dumps(shown) and "digest" not in shown
    assert run(app, ["keys", "revoke", row.id, *data]).exit_code == 0
    assert "revoked" in run(app, ["keys", "list", *data]).stdout
    for wrong in (row.id, key, "none"):
        refused = run(app, ["keys", "revoke", wrong, *data])
        assert refused.exit_code == 1 and "no key of that id" in refused.stderr
    ledger.close()


def test_as_json(data: list[str]) -> None:
    made = json.loads(run(app, ["keys", "create", "--name", "a", "--json", *data]).stdout)
    assert made["key"].startswith(f"sp_{made['id']}_")
    assert (made["scopes"], made["tenant"], made["expires_at"]) == (["read", "write"], "", None)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--scope", "everything"],
        ["--expires", "soon"],
        ["--expires", "2001-01-01"],
        ["--tenant", "Doe^Jane"],
        ["--rate", "0"],
        ["--max-queued-jobs", "0"],
    ],
)
def test_wrong_options_are_usage_errors(data: list[str], wrong: list[str]) -> None:
    assert run(app, ["keys", "create", "--name", "a", *wrong, *data]).exit_code == 2


def test_without_a_database_there_is_nothing_to_list(tmp_path: Path) -> None:
    for command in (["keys", "list"], ["keys", "revoke", "x"], ["audit"]):
        done = run(app, [*command, "--data", str(tmp_path / "none")])
        assert done.exit_code == 1 and "no database" in done.stderr
    assert not (tmp_path / "none").exists()


def test_the_trail_is_shown_and_pruned(tmp_path: Path, data: list[str]) -> None:
    from datetime import timedelta

    from spinepaint.store.audit import AuditEntry
    from spinepaint.store.database import utc_now

    made = json.loads(run(app, ["keys", "create", "--name", "a", "--json", *data]).stdout)
    ledger = ledger_in(tmp_path)
    ledger.record_audit(tenant="ours", key_id="k1", action="POST /v1/jobs", status=202)
    with ledger.write() as session:
        session.add(AuditEntry(at=utc_now() - timedelta(days=400), tenant="", key_id="k2", action="old", status=200))
    assert "k1  202  POST /v1/jobs" in run(app, ["audit", *data]).stdout
    run(app, ["keys", "revoke", made["id"], *data])
    own = json.loads(run(app, ["audit", "--json", "--key", made["id"], *data]).stdout)["entries"]
    assert [entry["action"] for entry in own] == ["keys revoke", "keys create"]
    assert "old" not in run(app, ["audit", "--since", "30d", *data]).stdout
    entries = json.loads(run(app, ["audit", "--json", "--key", "k2", *data]).stdout)["entries"]
    assert [entry["action"] for entry in entries] == ["old"]
    pruned = run(app, ["audit", "--prune", *data], env={"SPINEPAINT_AUDIT_DAYS": "365"})
    assert "removed 1 entries" in pruned.stderr
    assert "old" not in {entry.action for entry in ledger.list_audit()}
    assert len(ledger.list_audit()) == 3
    ledger.close()


def test_a_service_that_others_can_reach_serves_who_has_a_key_under_any_name(
    tmp_path: Path, data: list[str], valkey_url: str
) -> None:
    key = json.loads(spinepaint("keys", "create", "--name", "a", "--json", *data).stdout)["key"]
    argv = [sys.executable, "-m", "spinepaint.app.cli", "serve", "--no-worker", "--host", "0.0.0.0", "--port", "0", *data]
    env = {**os.environ, "SPINEPAINT_BROKER_URL": valkey_url}
    process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip().rpartition(":")[2]
        named = {"Host": "spinepaint.example.org"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=named, timeout=PATIENCE_S) as client:
            assert client.get("/health/live").status_code == 200
            assert client.get("/v1/jobs").status_code == 401
            assert client.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"}).json() == {"jobs": [], "next": None}
    finally:
        process.terminate()
        _, log = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert key not in log and "Traceback" not in log


def test_a_service_that_others_can_reach_needs_a_key_in_force(tmp_path: Path, data: list[str]) -> None:
    """As processes: what is refused after the database was opened."""
    key = json.loads(spinepaint("keys", "create", "--name", "a", "--json", *data).stdout)
    spinepaint("keys", "revoke", key["id"], *data)
    refused = spinepaint("serve", "--host", "0.0.0.0", "--port", "0", *data)
    assert refused.returncode == 2, refused.stderr
    assert "reached by others" in refused.stderr and "keys create" in refused.stderr
    assert "Traceback" not in refused.stderr
