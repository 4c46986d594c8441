"""The gateway image's installation, step by step as its Dockerfile has it, into folders in place of the image."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from spinepaint.app.cli.missing import MODULES
from tests.docker.described import DOCKER, ROOT, instructions

FOLDERS = ("/opt/build", "/opt/spinepaint", "/dist", "/src", "/sbom.cdx.json")
# What Debian's slim image has besides the C library; libz and libstdc++ are there because apt needs them.
OF_THE_BASE = re.compile(
    r"linux-vdso|ld-linux|lib(c|m|dl|rt|pthread|util|resolv|gcc_s|stdc\+\+|z|crypt|bz2|lzma|ffi|expat|uuid|sqlite3|ssl|crypto|"
    r"readline|ncursesw|tinfo|nsl|tirpc)\.so"
)


def clean(**more: str) -> dict[str, str]:
    """An environment without anything of this one's Python."""
    kept = {
        name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP", "http", "REQUESTS_", "no_"))
    }
    return kept | {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": more.get("HOME", "/tmp"), "SOURCE_DATE_EPOCH": "0"} | more


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build stage's file system: its folders below this one."""
    root = tmp_path_factory.mktemp("image")

    def placed(text: str) -> str:
        for folder in FOLDERS:
            text = re.sub(rf"(?<![\w.]){re.escape(folder)}\b", f"{root}{folder}", text)
        return text

    for entry in instructions(DOCKER / "gateway.Dockerfile"):
        value = entry["value"]
        if entry["instruction"] == "FROM" and not value.endswith("AS build"):
            if (root / "src").exists():
                break
        elif entry["instruction"] == "WORKDIR":
            (root / "src").mkdir()
        elif entry["instruction"] == "COPY":
            *sources, target = value.split()
            for source in sources:
                if (ROOT / source).is_dir():
                    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
                    shutil.copytree(ROOT / source, root / "src" / target, ignore=ignored)
                else:
                    shutil.copy(ROOT / source, root / "src" / target)
        elif entry["instruction"] == "RUN":
            done = subprocess.run(
                ["sh", "-ec", placed(value)], cwd=root / "src", env=clean(), capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr[-4000:]
    return root


def run(image: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = image / "opt" / "spinepaint" / "bin" / words[0]
    return subprocess.run(
        [str(program), *words[1:]], cwd=image, env=clean(**environment), capture_output=True, text=True, check=False, timeout=600
    )


def test_the_gateway_imports_and_nothing_that_computes_is_there(image: Path) -> None:
    program = "import spinepaint.app, spinepaint.app.gateway, spinepaint.app.serve, spinepaint.app.reading_tasks, psycopg\n"
    program += f"import importlib.util, sys\nsys.exit(any(importlib.util.find_spec(name) for name in {MODULES['worker']!r}))"
    done = run(image, "python", "-c", program)
    assert done.returncode == 0, done.stderr
    where = run(image, "python", "-c", "import spinepaint; print(spinepaint.__file__)").stdout
    assert where.startswith(str(image))
    installed = {path.name for path in (image / "opt" / "spinepaint" / "lib").glob("python3*/site-packages/*")}
    assert not {"torch", "monai", "celery", "pip", "setuptools"} & installed


def test_it_can_send_traces(image: Path) -> None:
    program = "from spinepaint.traces import current_trace, span, start_tracing\nstart_tracing('http://127.0.0.1:9', 'gateway')\n"
    program += "with span('x'): print(current_trace())"
    done = run(image, "python", "-c", program, OTEL_BSP_SCHEDULE_DELAY="60000", OTEL_EXPORTER_OTLP_TIMEOUT="1")
    assert re.match(r"00-[0-9a-f]{32}-", done.stdout), done.stderr


def test_its_commands(image: Path, tmp_path: Path) -> None:
    shown = run(image, "spinepaint", "serve", "--help")
    assert shown.returncode == 0
    assert "--no-worker" in shown.stdout
    assert run(image, "spinepaint", "migrate", "--data", str(tmp_path)).returncode == 0
    assert run(image, "spinepaint", "migrate", "--check", "--data", str(tmp_path)).returncode == 0
    served = run(image, "spinepaint", "serve", "--data", str(tmp_path))
    assert served.returncode == 1
    assert "Install the extra `worker`" in served.stderr
    worker = run(image, "spinepaint", "worker", "--data", str(tmp_path), SPINEPAINT_BROKER_URL="redis://127.0.0.1:9")
    assert worker.returncode == 1
    assert "pip install 'spinepaint[worker]'" in worker.stderr


def test_it_reads_a_series(image: Path, tmp_path: Path) -> None:
    from tests.imaging.series_factory import make_series

    make_series(tmp_path, slices=7, rows=64, columns=64, spacing_mm=(4.4, 2.0, 2.0))
    done = run(image, "spinepaint", "check", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accepted"] is True


def test_everything_is_of_the_pinned_version_and_in_the_bill_of_materials(image: Path) -> None:
    lines = (ROOT / "constraints.txt").read_text().split()
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (line.split("==") for line in lines)}
    bill = json.loads((image / "sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    components = {re.sub(r"[-_.]+", "-", part["name"]).lower(): part["version"] for part in bill["components"]}
    assert {"fastapi", "opentelemetry-sdk", "pydicom", "psycopg", "spinepaint"} <= components.keys()
    for name, version in components.items():
        if name != "spinepaint":
            assert pinned.get(name) == version, f"{name}=={version} is not in constraints.txt"
    builds = [str(image / "opt" / "build" / "bin" / "python"), "-m", "pip", "list", "--format=json"]
    for tool in json.loads(subprocess.run(builds, env=clean(), capture_output=True, text=True, check=True).stdout):
        name = re.sub(r"[-_.]+", "-", tool["name"]).lower()
        if name not in ("pip", "setuptools"):  # the base's, which bring themselves
            assert pinned.get(name) == tool["version"], f"{name}=={tool['version']} is not in constraints.txt"


def test_no_library_is_missing_from_the_base(image: Path) -> None:
    libraries = list((image / "opt" / "spinepaint").rglob("*.so*"))
    brought = {library.name for library in libraries}
    wanted = set()
    for library in libraries:
        for line in subprocess.run(["ldd", str(library)], capture_output=True, text=True, check=False).stdout.splitlines():
            if "statically linked" not in line:
                wanted.add(Path(line.split()[0]).name)
    assert {"libc.so.6", "libstdc++.so.6"} <= wanted
    assert {name for name in wanted - brought if not OF_THE_BASE.match(name)} == set()


def test_it_holds_no_group_s_or_world_s_writable_file(image: Path) -> None:
    assert not [
        path for path in (image / "opt" / "spinepaint").rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o002
    ]
