"""Prints what the package needs, a line each: `python requirements.py [EXTRA...]`, read from pyproject.toml here.

An image installs this before the code is copied, so that its dependencies are a layer of their own.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
needed = list(project["dependencies"])
for extra in sys.argv[1:]:
    needed += project["optional-dependencies"][extra]
print("\n".join(needed))
