"""Which faults come when, drawn from a seed, and how each is done."""

import random
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tests.chaos.members import Gateway, Member, Worker
from tests.chaos.proxy import FAILURES
from tests.chaos.servers import Objects, Postgres, Valkey

WORKERS, GATEWAYS = 3, 2
STALE_AFTER_S = 5.0
JUMPS_S = (-6 * 3600, -3600, -600, -90, 90, 600, 3600, 6 * 3600, 400 * 86400)
MOST_S = 10.0
"""No fault lasts longer, beside the time that a process takes to start."""


@dataclass(frozen=True)
class Fault:
    """Something that is done to `target` at `at_s` of the run, for `for_s`."""

    at_s: float
    kind: str
    target: str
    for_s: float
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.at_s:7.1f} s  {self.kind:<22} {self.target:<10} {self.for_s:4.1f} s  {self.detail}"


@dataclass(frozen=True)
class Done:
    """A fault that was done; times are those of the monotonic clock."""

    fault: Fault
    began: float
    ended: float


def _workers() -> list[str]:
    return [f"worker-{number}" for number in range(1, WORKERS + 1)]


def _gateways() -> list[str]:
    return [f"gateway-{number}" for number in range(1, GATEWAYS + 1)]


def _draw(kind: str, chance: random.Random) -> tuple[str, float, str]:
    """Target, seconds and detail of a fault of this kind."""
    match kind:
        case "worker process killed":
            return chance.choice(_workers()), 0.0, ""
        case "worker machine lost":
            return chance.choice(_workers()), chance.uniform(0.0, 3.0), ""
        case "worker frozen":
            return chance.choice(_workers()), STALE_AFTER_S + chance.uniform(1.0, 3.0), ""
        case "gateway killed":
            return chance.choice(_gateways()), chance.uniform(0.0, 3.0), ""
        case "bucket fails":
            return "bucket", chance.uniform(1.0, 6.0), chance.choice(FAILURES)
        case "clock jumps":
            return chance.choice(_workers() + _gateways()), chance.uniform(3.0, MOST_S), f"{chance.choice(JUMPS_S):+d} s"
    return kind.split()[0], chance.uniform(0.0, 4.0), ""


KINDS = (
    "worker process killed",
    "worker machine lost",
    "worker frozen",
    "gateway killed",
    "broker killed",
    "database killed",
    "bucket killed",
    "bucket fails",
    "clock jumps",
)


def make_schedule(seed: int, seconds: float, every_s: float) -> list[Fault]:
    """Faults one every `every_s` or so: each kind once in a random order, then again; at least once each."""
    chance = random.Random(f"chaos/{seed}")
    count = max(len(KINDS), round(seconds / every_s))
    kinds: list[str] = []
    while len(kinds) < count:
        kinds += chance.sample(KINDS, len(KINDS))
    step_s = seconds / count
    return [Fault((number + chance.random()) * step_s, kind, *_draw(kind, chance)) for number, kind in enumerate(kinds[:count])]


class Chaos:
    """Does faults at their times, each in a thread; those that have one target come one after the other."""

    def __init__(self, members: Sequence[Member], postgres: Postgres, valkey: Valkey, objects: Objects) -> None:
        self._members = {member.name: member for member in members}
        self._postgres, self._valkey, self._objects = postgres, valkey, objects
        self._locks = {name: threading.Lock() for name in (*self._members, "broker", "database", "bucket")}
        self.done: list[Done] = []
        self.errors: list[str] = []

    def run(self, schedule: Sequence[Fault], tell: Callable[[str], None]) -> None:
        """Do them all; returns once everything is up again."""
        began = time.monotonic()
        threads = []
        for fault in schedule:
            time.sleep(max(0.0, began + fault.at_s - time.monotonic()))
            tell(str(fault))
            threads.append(threading.Thread(target=self._do, args=(fault,), name=str(fault), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _do(self, fault: Fault) -> None:
        # A clock is moved whatever else is done to its process.
        with threading.Lock() if fault.kind == "clock jumps" else self._locks[fault.target]:
            began = time.monotonic()
            try:
                self._act(fault)
            except Exception as error:
                self.errors.append(f"{fault}: {error!r}")
            self.done.append(Done(fault, began, time.monotonic()))

    def _act(self, fault: Fault) -> None:
        pause = partial(time.sleep, fault.for_s)
        member = self._members.get(fault.target)
        match fault.kind, member:
            case "worker process killed", Worker():
                member.kill_tasks()
            case (("worker machine lost" | "gateway killed"), Member()):
                member.kill()
                pause()
                member.start()
                if isinstance(member, Gateway):
                    member.wait_listening()
            case "worker frozen", Worker():
                member.signal(signal.SIGSTOP)
                pause()
                member.signal(signal.SIGCONT)
            case "clock jumps", Member():
                member.move_clock(float(fault.detail.split()[0]))
                pause()
                member.move_clock(0.0)
            case "broker killed", _:
                self._valkey.kill()
                pause()
                self._valkey.start()
            case "database killed", _:
                self._postgres.stop()
                pause()
                self._postgres.start()
            case "bucket killed", _:
                self._objects.program.kill()
                pause()
                self._objects.start()
            case "bucket fails", _:
                self._objects.proxy.fail(fault.detail)
                pause()
                self._objects.proxy.heal()
            case _:
                raise LookupError(fault.kind)


def counted(done: Sequence[Done]) -> Mapping[str, list[Done]]:
    """By kind, in the order of KINDS."""
    return {kind: [one for one in done if one.fault.kind == kind] for kind in KINDS}
