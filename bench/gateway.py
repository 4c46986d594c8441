"""What the gateway costs: its resident memory after a start, and whether it ever imported torch."""

import subprocess
import sys

_PROBE = """
import sys, psutil
from spinepaint.app.gateway import create_app
create_app
print(psutil.Process().memory_info().rss / 2**20, int('torch' in sys.modules))
"""


def measure() -> dict[str, float]:
    """Resident MiB of a process that has loaded the gateway. Target: under 150, torch not imported."""
    out = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True).stdout.split()
    return {"resident_mib": float(out[0]), "torch_imported": float(out[1])}
