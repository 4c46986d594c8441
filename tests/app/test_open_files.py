"""As many files as the system allows, and no more connections than there are files for."""

import resource
import subprocess
import sys

import pytest

from spinepaint.app.open_files import RESERVE

PROGRAM = """
import logging, resource, sys
logging.basicConfig(format="%(message)s")
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from spinepaint.app.open_files import most_connections
print(most_connections(wanted), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "most"),
    [
        (128, 2048, 1000, 1000),
        (128, 1024, 1000, 1024 - RESERVE),
        (128, 300, 1000, 150),
    ],
)
def test_the_soft_limit_is_raised_and_connections_fit_below_it(soft: int, hard: int, wanted: int, most: int) -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= hard
    argv = [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(wanted)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(most), str(hard), str(hard)]
    assert (f"max_connections is {most} here and not {wanted}" in done.stderr) == (most < wanted)
