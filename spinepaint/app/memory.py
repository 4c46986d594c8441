"""How much memory this process may take from here on."""

import os
import sys
from pathlib import Path


def limit_memory(more_bytes: int) -> None:
    """Have the kernel refuse address space beyond what is in use now and `more_bytes`: MemoryError, instead of a full machine.

    By setrlimit(2), RLIMIT_AS, on Linux only; elsewhere the caps on what is read have to do.
    """
    if sys.platform != "linux":
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * os.sysconf("SC_PAGE_SIZE") + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
