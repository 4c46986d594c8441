"""Gateways and workers as processes, each with a folder and a clock of its own."""

import os
import signal
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from tests.chaos.servers import PATIENCE_S, until
from tests.docker.parts import free_port

CLOCKS = Path(__file__).parent / "clock"
ROOT = Path(__file__).parents[2]
PIPELINE = "tests.chaos.standin:paint"
CLI = [sys.executable, "-m", "spinepaint.app.cli"]


@dataclass
class Member:
    """A part of the service, which can be killed, frozen and started again, and whose clock can be moved."""

    name: str
    folder: Path
    environment: dict[str, str]
    words: list[str] = field(default_factory=list)
    process: "subprocess.Popen[bytes] | None" = None
    wanted: bool = False
    ended_unasked: int = 0
    over: bool = False

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self._starting = threading.Lock()
        self.clock = self.folder.with_suffix(".clock")
        self.move_clock(0.0)

    @property
    def data(self) -> Path:
        """What the product is told to keep its files in."""
        return self.folder / "data"

    def move_clock(self, wrong_by_s: float) -> None:
        """Written in place, since the processes have the file mapped."""
        with self.clock.open("r+b" if self.clock.exists() else "wb") as file:
            file.write(struct.pack("d", wrong_by_s))

    def tend(self) -> None:
        """Start it again where it ended unasked, as what runs containers does: perhaps what it needs was not there."""
        with self._starting:
            if self.wanted and self.process is not None and self.process.poll() is not None:
                self.ended_unasked += 1
                self._start()

    def start(self) -> None:
        with self._starting:
            if not self.over:
                self._start()
                self.wanted = True

    def _start(self) -> None:
        with self.folder.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(
                [*CLI, *self.words],
                env=self.environment_now(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # a Ctrl-C is for the harness, which ends its members itself
            )

    def environment_now(self) -> dict[str, str]:
        """Of its processes: the settings, its clock, and where it may leave what is temporary, so that it is found."""
        own = {"SPINEPAINT_CHAOS_CLOCK": str(self.clock), "PYTHONPATH": f"{CLOCKS}{os.pathsep}{ROOT}"}
        return self.environment | own | {"TMPDIR": str(self.folder), "OMP_NUM_THREADS": "1"}

    def family(self) -> list[psutil.Process]:
        """The process and its descendants, it first."""
        if self.process is None:
            return []
        with suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        return []

    def kill(self) -> None:
        """As when the power fails: all of it at once."""
        with self._starting:
            self.wanted = False
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def close(self) -> None:
        """Kill it for good: a fault that is under way does not start it again."""
        with self._starting:
            self.over = True
        self.kill()

    def signal(self, signum: int) -> None:
        """To every process of it."""
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signum)

    def stop(self, patience_s: float = PATIENCE_S) -> int:
        """Ask it to end; its exit status."""
        self.wanted = False
        if self.process is None:
            return 0
        self.process.terminate()
        return self.process.wait(patience_s)

    def leftovers(self) -> list[str]:
        """Files that were for a while only, and folders made for them, once it has ended."""
        temporary = [path for path in self.folder.iterdir() if path != self.data]
        for name in ("scratch", "incoming"):
            temporary += (self.data / name).glob("*")
        return sorted(path.relative_to(self.folder).as_posix() for path in temporary)


class Gateway(Member):
    """`spinepaint serve --no-worker`, always at the same port."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        words = ["serve", "--no-worker", "--port", str(port), "--data", str(folder / "data")]
        super().__init__(name, folder, environment, words)

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=10, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def wait_listening(self) -> None:
        """Whether or not what it stands on is there at the moment."""
        until(self._lives, self.name)

    def _lives(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/live", timeout=10, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


class Worker(Member):
    """`spinepaint worker`: a supervisor that reaps and sends, and below it a process that runs jobs."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        super().__init__(name, folder, environment, ["worker", "--pipeline", PIPELINE, "--data", str(folder / "data")])

    def kill_tasks(self) -> bool:
        """Kill the process that runs jobs, as the kernel does where memory runs out; False where there was none."""
        for process in self.family()[1:]:
            with suppress(psutil.NoSuchProcess):
                if "spawn_main" in " ".join(process.cmdline()):
                    process.kill()
                    return True
        return False
