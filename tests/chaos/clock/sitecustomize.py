"""Lets the harness move the wall clock of one process: Python imports this at every start where its folder is on the path.

`SPINEPAINT_CHAOS_CLOCK` names a file of one float64: by how many seconds `time.time` of this process and of its children is
wrong, from the moment that it is written. The monotonic clock goes on as it does on a machine whose time is set. What native
code reads itself stays right: the signatures that obstore puts on requests, and `datetime.now`.
"""

import mmap
import os
import struct
import time


def _move_with(path: str) -> None:
    with open(path, "r+b") as file:  # noqa: PTH123 - at every start of Python, where pathlib would cost 10 ms
        wrong_by = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
    true_s, true_ns = time.time, time.time_ns
    time.time = lambda: true_s() + struct.unpack_from("d", wrong_by)[0]
    time.time_ns = lambda: true_ns() + int(1e9 * struct.unpack_from("d", wrong_by)[0])


if "SPINEPAINT_CHAOS_CLOCK" in os.environ:
    _move_with(os.environ["SPINEPAINT_CHAOS_CLOCK"])
