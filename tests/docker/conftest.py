"""Tests of what is deployed. Those that install and start things for minutes run by `make test-deploy`, not in other runs."""

import os

collect_ignore_glob = [] if os.environ.get("SPINEPAINT_DEPLOY") else ["test_install.py", "test_rehearsal.py"]
