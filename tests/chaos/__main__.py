"""Kills and breaks a whole deployment while jobs are submitted: `python -m tests.chaos --jobs 500 --minutes 8`.

PostgreSQL, Valkey and an S3 store are real ones, started here; two gateways, three workers; the pipeline is a stand-in that is
quick. Faults come by a schedule that is drawn from `--seed` and printed, so that a run can be done again. (What they hit depends
on the machine's speed.) What is promised: every accepted job ends delivered exactly once or failed with a reason; no result is
mixed up; nothing is left over. It is looked at from outside; see `verdict.py`. 1 where a promise was broken.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.chaos.callers import Callers, make_sources, make_wishes
from tests.chaos.faults import Chaos, make_schedule
from tests.chaos.site import Site, running
from tests.chaos.table import print_table
from tests.chaos.verdict import judge
from tests.chaos.watch import Watch


def main() -> int:
    """Run, print the table, and tell whether all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=8.0, help="for which jobs are submitted and faults come")
    parser.add_argument("--every", type=float, default=6.0, help="seconds between faults, on average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plan", action="store_true", help="print the schedule only")
    parser.add_argument("--keep", type=Path, help="where the processes' logs go if a promise was broken")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # which ends what was started
    if options.plan:
        print(*make_schedule(options.seed, 60 * options.minutes, options.every), sep="\n")
        return 0
    # Not below a folder that only its user may enter: PostgreSQL may have a user of its own.
    with tempfile.TemporaryDirectory(prefix="spinepaint-chaos-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with running(folder) as site:
            broken = run(site, options.jobs, 60 * options.minutes, options.every, options.seed)
        if broken and options.keep is not None:
            options.keep.mkdir(parents=True, exist_ok=True)
            for log in folder.glob("*.log"):
                shutil.copy(log, options.keep)
    return 1 if broken else 0


def run(site: Site, jobs: int, seconds: float, every_s: float, seed: int) -> bool:
    """Whether a promise was broken."""
    began = time.monotonic()

    def tell(what: str) -> None:
        print(f"[{time.monotonic() - began:6.1f}] {what}", flush=True)

    sources = make_sources(site.folder / "sources")
    wishes = make_wishes(seed, jobs, sources)
    callers = Callers([gateway.url for gateway in site.gateways], f"{site.receivers.url}/hook")
    callers.upload(sources)
    chaos = Chaos(site.members, site.postgres, site.valkey, site.objects)
    schedule = make_schedule(seed, seconds, every_s)
    tell(f"{jobs} jobs and {len(schedule)} faults in {seconds:.0f} s, seed {seed}")
    with Watch(site.postgres) as watch:
        asking = threading.Thread(target=callers.run, args=(wishes, seconds), name="callers", daemon=True)
        asking.start()
        chaos.run(schedule, tell)
        asking.join()
        tell("no more faults, no more jobs")
        verdict = judge(site, wishes, chaos.done, seed, tell)
    verdict.broken += chaos.errors
    verdict.numbers["processes that ended unasked and were started again"] = sum(one.ended_unasked for one in site.members)
    print_table(verdict, wishes, chaos.done, watch)
    print(f"{jobs} jobs, {len(chaos.done)} faults, {time.monotonic() - began:.0f} s; {len(verdict.broken)} promises broken")
    for broken in verdict.broken[:50]:
        print(f"  {broken}")
    return bool(verdict.broken)


if __name__ == "__main__":
    sys.exit(main())
