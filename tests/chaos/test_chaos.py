"""A slice of the chaos, with each kind of fault at least once; and that what is there to notice broken promises does."""

import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread

from spinepaint.store import Ledger, migrate
from spinepaint.store.clock import SharedClock
from tests.chaos.callers import Asked, Source, make_sources
from tests.chaos.evidence import Row, wrong_files
from tests.chaos.faults import KINDS, Done, Fault, make_schedule
from tests.chaos.members import Member
from tests.chaos.proxy import FAILURES, Proxy
from tests.chaos.receivers import Receivers, Told, receiving
from tests.chaos.servers import Postgres
from tests.chaos.standin import BREAKS, DIARY, paint
from tests.chaos.verdict import Verdict, judge_webhooks, wrong_end
from tests.store.discards import due_discards

JOBS, SECONDS = 30, 36
ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(1800)
def test_no_fault_loses_doubles_or_mixes_up_a_job_or_leaves_anything(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.chaos", "--jobs", str(JOBS), "--minutes", str(SECONDS / 60), "--keep", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    logs = "".join(log.read_text(errors="replace")[-3000:] for log in tmp_path.glob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr[-3000:] + logs
    assert "0 promises broken" in done.stdout
    for kind in KINDS:
        assert f"| {kind:<22} |     1 |" in done.stdout


def test_the_same_seed_gives_the_same_faults_and_each_kind_comes() -> None:
    first = make_schedule(5, 60.0, 3.0)
    assert first == make_schedule(5, 60.0, 3.0) != make_schedule(6, 60.0, 3.0)
    assert {fault.kind for fault in first} == {fault.kind for fault in make_schedule(5, 1.0, 1000.0)} == set(KINDS)
    assert [fault.at_s for fault in first] == sorted(fault.at_s for fault in first)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return make_sources(tmp_path_factory.mktemp("sources"))[0]


def asked_for(source: Source, seed: int = 11) -> Asked:
    return Asked(seed, source, uploads=False, callback=True, delivery=False, cancels=False)


@pytest.fixture
def result(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files of a job's result, as they are in its zip."""
    monkeypatch.setenv(DIARY, str(tmp_path / "diary"))
    (tmp_path / "source").mkdir()
    for name, data in source.files.items():
        (tmp_path / "source" / name).write_bytes(data)
    out = tmp_path / "out"
    paint(tmp_path / "source", {"seed": 11}, out, bundle=None, progress=lambda _stage, _fraction: None)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_result_of_another_job_or_not_whole_is_noticed(source: Source, result: dict[str, bytes], tmp_path: Path) -> None:
    assert wrong_files(dict(result), asked_for(source)) is None
    assert wrong_files(dict(result), asked_for(source, 12)) is not None
    other = replace(source, sha256="0" * 64)
    assert wrong_files(dict(result), asked_for(other)) is not None
    first = min(name for name in result if name.endswith(".dcm"))
    without = {name: data for name, data in result.items() if name != first}
    assert "instances" in str(wrong_files(without, asked_for(source)))
    dataset = dcmread(io.BytesIO(result[first]))
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(tmp_path / "blank")
    assert "pixels" in str(wrong_files(result | {first: (tmp_path / "blank").read_bytes()}, asked_for(source)))


def test_an_end_that_must_not_be_is_noticed(source: Source) -> None:
    row = Row("id", "key", "succeeded", 1, 11, None, "results/")
    problem = {"type": "https://x/internal-error", "title": "It stopped.", "detail": "Why."}
    assert wrong_end(row, asked_for(source)) is None
    assert wrong_end(row, asked_for(source, BREAKS)) is not None
    assert wrong_end(replace(row, state="running"), asked_for(source)) is not None
    assert wrong_end(replace(row, state="cancelled"), asked_for(source)) is not None
    assert wrong_end(replace(row, state="failed", problem=problem), asked_for(source)) is None
    assert wrong_end(replace(row, state="failed", problem=problem | {"detail": ""}), asked_for(source)) is not None


def judged(source: Source, *told: Told, done: tuple[Done, ...] = ()) -> list[str]:
    verdict = Verdict()
    rows = {11: Row("id", "key", "succeeded", 1, 11, None, "results/")}
    judge_webhooks(Receivers(told=list(told)), [asked_for(source)], rows, done, verdict)
    return verdict.broken


def test_a_webhook_too_many_or_too_few_is_noticed(source: Source) -> None:
    once = Told(100.0, 11, "msg_1", "job.succeeded", "id", 200)
    assert judged(source, replace(once, status=503), once) == []
    assert judged(source) != []
    assert judged(source, once, once) != []
    assert judged(source, once, replace(once, message_id="msg_2")) != []
    assert judged(source, replace(once, kind="job.failed")) != []
    lost = Done(Fault(0.0, "worker machine lost", "worker-1", 1.0), began=100.5, ended=102.0)
    assert judged(source, once, once, done=(lost,)) == []
    assert judged(source, once, once, done=(replace(lost, began=200.0, ended=201.0),)) != []


@pytest.mark.parametrize("mode", FAILURES)
def test_the_way_to_the_bucket_fails_and_heals(mode: str) -> None:
    hook = {"type": "job.succeeded", "data": {"id": "id"}}
    with receiving() as receivers:
        receivers.chance.random = lambda: 1.0  # type: ignore[method-assign]
        proxy = Proxy(int(receivers.url.rpartition(":")[2]))
        headers = {"webhook-id": "msg_1", "connection": "close"}

        def ask() -> int:
            try:
                url = f"http://127.0.0.1:{proxy.port}/hook/1"
                return httpx.post(url, content=json.dumps(hook), headers=headers, timeout=2.0, trust_env=False).status_code
            except httpx.HTTPError:
                return 0

        proxy.fail(mode)
        assert any(ask() != 200 for _ in range(20))
        proxy.heal()
        assert [ask() for _ in range(3)] == [200] * 3
        proxy.close()


def test_a_members_clock_can_be_moved_while_it_runs(tmp_path: Path) -> None:
    program = "import time\nwhile input(): print(time.time(), time.monotonic(), flush=True)"
    member = Member("m", tmp_path / "m", {}, [])
    environment = member.environment_now()
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for jump_s in (0.0, 7200.0, -7200.0, 0.0):
            member.move_clock(jump_s)
            before = time.time(), time.monotonic()
            print("?", file=process.stdin, flush=True)
            wall, monotonic = map(float, process.stdout.readline().split())
            assert 0.0 <= wall - jump_s - before[0] < 600.0
            assert 0.0 <= monotonic - before[1] < 600.0
        process.kill()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    # Not below pytest's folder, which only its user may enter: PostgreSQL may have a user of its own.
    with tempfile.TemporaryDirectory(prefix="spinepaint-clock-") as name:
        Path(name).chmod(0o755)
        postgres = Postgres(Path(name) / "postgres")
        migrate(postgres.url)
        yield postgres
        postgres.close()


@pytest.mark.parametrize("jump_s", [-7200.0, 7200.0])
def test_a_machine_whose_clock_is_wrong_takes_back_nothing_and_loses_nothing(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    right = Ledger(postgres.url)
    series = right.add_series(sha256="0" * 64, geometry={}, warnings=[], artifact_key="sources/a/")
    held = right.submit_job(series.id, {})
    assert right.claim(held.id, "right") is not None

    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + jump_s)
    # As in a process that has just begun, whose machine's clock is wrong from the start.
    monkeypatch.setattr("spinepaint.store.database.clock", SharedClock())
    wrong = Ledger(postgres.url)
    stale_after = timedelta(minutes=30)
    assert wrong.requeue_stale(wrong.now(), stale_after) == []
    waiting = wrong.submit_job(series.id, {})
    claim = wrong.claim(waiting.id, "wrong")
    assert claim is not None
    assert wrong.heartbeat(waiting.id, claim.token)
    monkeypatch.undo()

    assert right.requeue_stale(right.now(), stale_after) == []
    assert due_discards(right, right.now()) == []
    later = wrong.submit_job(series.id, {})
    assert later.id in {owed.job_id for owed in right.pending_announcements(right.now() + stale_after)}
    right.close()
    wrong.close()
