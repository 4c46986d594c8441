"""Runs schemathesis against a gateway."""

import os
import subprocess
import sys
from pathlib import Path

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method,allow_header_conformance,use_after_free"
)
ROOT = Path(__file__).parents[2]


def ask(url: str, known: Path, folder: Path, *options: str, key: str = "") -> subprocess.CompletedProcess[str]:
    """Ask every operation of the document of a gateway, all under a key where there is one.

    With a key it is also seen that none answers without. The exit status is 0 where nothing was found.
    """
    argv = [sys.executable, "-m", "schemathesis.cli", "--config-file", os.devnull, "run", f"{url}/openapi.json"]
    argv += ["--checks", CHECKS + ",ignored_auth" * bool(key), "--no-color"]
    argv += ["--header", f"Authorization: Bearer {key}"] if key else []
    env = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.api.hooks", "SPINEPAINT_API_KNOWN": str(known), "PYTHONPATH": str(ROOT)}
    return subprocess.run([*argv, *options], capture_output=True, text=True, errors="replace", env=env, cwd=folder, check=False)
