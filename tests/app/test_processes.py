"""Children are restarted, and never outlive the supervisor."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from spinepaint.app.processes import Child, Supervisor, end_recorded

SLEEP = ["/bin/sleep", "300"]


def until(condition: Callable[[], object], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "child.log"


def test_a_killed_child_is_started_again_and_stopped_at_the_end(tmp_path: Path, log: Path) -> None:
    supervisor = Supervisor(tmp_path / "children.json")
    supervisor.add(Child("sleeper", SLEEP, log=log))
    until(supervisor.pids)
    first = supervisor.pids()["sleeper"]
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.pids()["sleeper"] != first)
    second = supervisor.pids()["sleeper"]
    assert alive(second)
    supervisor.stop()
    assert not alive(second)
    assert not (tmp_path / "children.json").exists()


def test_what_depends_on_a_killed_child_is_started_again_too(tmp_path: Path, log: Path) -> None:
    supervisor = Supervisor(tmp_path / "children.json")
    for name in ("first", "second"):
        supervisor.add(Child(name, SLEEP, log=log))
    until(lambda: len(supervisor.pids()) == 2)
    before = supervisor.pids()
    os.kill(before["second"], signal.SIGKILL)
    until(lambda: supervisor.pids()["second"] != before["second"])
    assert supervisor.pids()["first"] == before["first"]
    between = supervisor.pids()
    os.kill(between["first"], signal.SIGKILL)
    until(lambda: set(supervisor.pids().values()).isdisjoint(between.values()))
    supervisor.stop()


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path, log: Path) -> None:
    supervisor = Supervisor(tmp_path / "children.json")
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(300)"
    supervisor.add(Child("stubborn", [sys.executable, "-c", stubborn], grace_s=0.2, log=log))
    until(lambda: log.exists() and "up" in log.read_text())
    pid = supervisor.pids()["stubborn"]
    supervisor.stop()
    assert not alive(pid)


def test_what_a_killed_child_leaves_behind_is_ended(tmp_path: Path, log: Path) -> None:
    program = "import os, subprocess, time; p = subprocess.Popen(['/bin/sleep', '300'], process_group=0)\n"
    program += "print(p.pid, flush=True); time.sleep(300)"
    supervisor = Supervisor(tmp_path / "children.json")
    supervisor.add(Child("parent", [sys.executable, "-c", program], log=log))
    until(lambda: log.exists() and log.read_text().endswith("\n"))
    grandchild = int(log.read_text())
    os.kill(supervisor.pids()["parent"], signal.SIGKILL)
    until(lambda: not alive(grandchild))
    supervisor.stop()


PARENT = """
import sys, time
from pathlib import Path
from spinepaint.app.processes import Child, Supervisor
supervisor = Supervisor(Path(sys.argv[1]))
supervisor.add(Child("sleeper", ["/bin/sleep", "300"], log=Path(sys.argv[2])))
while not supervisor.pids(): time.sleep(0.02)
print(supervisor.pids()["sleeper"], flush=True)
time.sleep(300)
"""


def test_children_die_with_a_killed_parent(tmp_path: Path, log: Path) -> None:
    argv = [sys.executable, "-c", PARENT, str(tmp_path / "children.json"), str(log)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    until(lambda: not alive(child))


def test_what_a_killed_service_left_is_ended_at_the_next_start(tmp_path: Path) -> None:
    record = tmp_path / "children.json"
    with subprocess.Popen(SLEEP, start_new_session=True) as left_behind:
        created = psutil.Process(left_behind.pid).create_time()
        record.write_text(f"[[{left_behind.pid}, {created}]]")
        end_recorded(record)
        assert not alive(left_behind.pid)
    assert not record.exists()


def test_a_process_that_took_over_the_number_is_left_alone(tmp_path: Path) -> None:
    record = tmp_path / "children.json"
    with subprocess.Popen(SLEEP, start_new_session=True) as stranger:
        record.write_text(f"[[{stranger.pid}, {psutil.Process(stranger.pid).create_time() - 100}]]")
        end_recorded(record)
        assert stranger.poll() is None
        stranger.kill()


def test_a_spoilt_record_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "children.json").write_text("{")
    end_recorded(tmp_path / "children.json")
    end_recorded(tmp_path / "absent.json")
