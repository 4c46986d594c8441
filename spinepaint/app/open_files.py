"""How many files this process may have open; each connection is one."""

import logging
import resource
from contextlib import suppress

RESERVE = 256
"""For what is no connection: databases, the broker, uploads that are written, artifacts that are read, the logs."""

_log = logging.getLogger(__name__)


def allow_open_files() -> int:
    """Raise this process's limit, and that of what it starts, as far as it may be (setrlimit(2)); what it is then.

    The soft limit is 1024 on most systems for the sake of programs that use select(2).
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems say that there is no limit, and take none as high
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def most_connections(wanted: int) -> int:
    """The connections that may be open at a time: as many as are wanted, or fewer, with a warning, where files are too few."""
    files = allow_open_files()
    if files == resource.RLIM_INFINITY or wanted + RESERVE <= files:
        return wanted
    most = min(wanted, max(files - RESERVE, files // 2))
    _log.warning("max_connections is %d here and not %d: this process may have %d files open", most, wanted, files)
    return most
