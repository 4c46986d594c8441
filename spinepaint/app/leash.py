"""Runs a command that dies with its parent: `python leash.py PARENT_PID COMMAND...`.

A program of its own, because setting this between fork and exec of a threaded Python process is not
safe. The parent-death signal survives execve (prctl(2), PR_SET_PDEATHSIG) and exists on Linux only;
elsewhere the next start ends what a killed service left behind.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; exit at once if it already has."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is the point
