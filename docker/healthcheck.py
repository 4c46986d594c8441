"""Whether a container's program is alive: `python healthcheck.py gateway|worker`; the standard library only.

It does not ask whether the database, the broker or the store answer: a restart mends none of them. That is /health/ready.
"""

import os
import sys
import urllib.request
from pathlib import Path

TIMEOUT_S = 5.0


def gateway(port: int) -> bool:
    """Whether the gateway answers on loopback."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def worker(proc: Path = Path("/proc")) -> bool:
    """Whether `spinepaint worker` runs, and has a process that takes jobs."""
    commands = _commands(proc)
    workers = {pid for pid, words in commands.items() if _is_worker(words)}
    return any(_parent(proc, pid) in workers for pid, words in commands.items() if _takes_jobs(words))


def _is_worker(words: list[str]) -> bool:
    return "worker" in words and any("spinepaint" in word for word in words)


def _takes_jobs(words: list[str]) -> bool:
    # How multiprocessing starts a child by `spawn`.
    return any("spawn_main" in word for word in words)


def _commands(proc: Path) -> dict[int, list[str]]:
    found = {}
    for folder in proc.iterdir():
        if folder.name.isdecimal():
            try:
                found[int(folder.name)] = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:  # it has ended, or is somebody else's
                continue
    return found


def _parent(proc: Path, pid: int) -> int:
    try:
        # proc(5): the name, in brackets, may hold anything; the state and the parent come after the last one.
        return int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


if __name__ == "__main__":
    healthy = gateway(int(os.environ.get("SPINEPAINT_PORT", "8000"))) if sys.argv[1] == "gateway" else worker()
    sys.exit(0 if healthy else 1)
