"""The Dockerfiles, and what the build is given."""

import fnmatch
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from spinepaint import __version__
from spinepaint.app.cli.missing import MODULES
from tests.docker.described import (
    DOCKER,
    DOCKERFILES,
    ROOT,
    check_command,
    compose,
    instructions,
    known_variable,
    settings_of,
    variables,
)

ALLOWED = {"FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "LABEL", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
PLACES = {
    "docker/entrypoint.sh": "/usr/local/bin/spinepaint-entrypoint",
    "docker/healthcheck.py": "/usr/local/lib/spinepaint/healthcheck.py",
}


def values(dockerfile: Path, instruction: str) -> list[str]:
    return [entry["value"] for entry in instructions(dockerfile) if entry["instruction"] == instruction]


def test_there_are_two() -> None:
    assert [path.name for path in DOCKERFILES] == ["gateway.Dockerfile", "worker.Dockerfile"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_instructions_stages_and_bases(dockerfile: Path) -> None:
    assert {entry["instruction"] for entry in instructions(dockerfile)} <= ALLOWED
    args = dict(value.split("=", 1) for value in values(dockerfile, "ARG") if "=" in value)
    assert re.fullmatch(r"docker\.io/library/python:3\.11\.\d+-slim-bookworm", args["BASE"])
    stages = {"scratch"}
    for value in values(dockerfile, "FROM"):
        base, _, stage = value.partition(" AS ")
        assert base in {"${BASE}", *stages}
        stages.add(stage)
    for value in values(dockerfile, "COPY"):
        for stage in re.findall(r"--from=(\S+)", value):
            assert stage in stages
    for value in values(dockerfile, "RUN"):
        # What is installed is of the version that constraints.txt says, or of the base, which can be pinned; so nothing by apt.
        assert not re.search(r"curl|wget|sudo|apt|chmod 777|:latest", value)
        if "pip install" in value and "dist/*.whl" not in value:
            assert "--constraint constraints.txt" in value


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_it_runs_as_nobody_in_particular_with_labels_a_check_and_a_bill_of_materials(dockerfile: Path) -> None:
    assert values(dockerfile, "USER") == ["10001:10001"]
    labels = " ".join(values(dockerfile, "LABEL"))
    for label in ("title", "description", "licenses", "version", "revision", "created", "base.name"):
        assert f"org.opencontainers.image.{label}=" in labels
    assert f"VERSION={__version__}" in values(dockerfile, "ARG")
    (check,) = values(dockerfile, "HEALTHCHECK")
    probe = json.loads(check[check.index("[") :])
    assert probe == ["python", PLACES["docker/healthcheck.py"], dockerfile.stem]
    assert json.loads(values(dockerfile, "ENTRYPOINT")[0]) == [PLACES["docker/entrypoint.sh"]]
    check_command(json.loads(values(dockerfile, "CMD")[0]))
    assert "cyclonedx-py environment" in " ".join(values(dockerfile, "RUN"))
    copies = " | ".join(values(dockerfile, "COPY"))
    for source, target in PLACES.items():
        assert f"{source} {target}" in copies
    # The last stage's state: what is set after USER could not be changed by root any more, so it comes last.
    assert [entry["instruction"] for entry in instructions(dockerfile)][-1] == "CMD"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_its_variables_are_the_program_s(dockerfile: Path) -> None:
    given = variables(dockerfile)
    for name in given:
        assert known_variable(name), name
        assert not re.search(r"password|secret|token", name, re.IGNORECASE)
    settings = settings_of(given)
    assert str(settings.data_dir) == "/var/lib/spinepaint"
    # /tmp is memory, and little of it; the data folder is a volume.
    assert Path(given["TMPDIR"]).parent == settings.data_dir
    assert "NVIDIA_VISIBLE_DEVICES" not in given  # else a container without a GPU of its own would see those of all
    assert not settings.migrate_at_start
    for port in values(dockerfile, "EXPOSE"):
        assert int(port) == settings.port


def let_through(path: str) -> bool:
    """Whether .dockerignore lets a path into the build: the last line that fits it, or one of its folders, decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parts = path.split("/")
        places = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        plain = pattern.removeprefix("**/")
        tried = [part for place in places for part in ([place.rpartition("/")[2]] if pattern.startswith("**/") else [place])]
        if any(fnmatch.fnmatchcase(part, plain) for part in tried):
            kept = line.startswith("!")
    return kept


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_the_build_is_given_what_it_copies(dockerfile: Path) -> None:
    for value in values(dockerfile, "COPY"):
        if "--from=" in value:
            continue
        *sources, _target = [word for word in value.split() if not word.startswith("--")]
        for source in sources:
            assert (ROOT / source).exists(), source
            assert let_through(source), source
    assert let_through("spinepaint/bundles/lite/inpainter.safetensors")
    assert let_through("spinepaint/alembic/versions/0001_the_ledger_as_it_began.py")


@pytest.mark.parametrize(
    "path",
    [".git/config", "docker/secrets/postgres_password", "data/x.dcm", "runs/a.pt", "out/demo/report.json", ".venv/bin/python",
     "spinepaint/__pycache__/settings.pyc", "spinepaint/app/serve.pyc", ".env", "tests/test_settings.py"],
)  # fmt: skip
def test_the_build_is_not_given_data_or_secrets(path: str) -> None:
    assert not let_through(path)


def test_the_lists_of_requirements_differ_by_what_computes() -> None:
    def listed(*extras: str) -> set[str]:
        argv = [sys.executable, str(DOCKER / "requirements.py"), *extras]
        return set(subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")) - {""}

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert listed() == set(project["dependencies"])
    assert listed("worker") - listed() == set(project["optional-dependencies"]["worker"])
    assert listed("otel") - listed() == set(project["optional-dependencies"]["otel"])
    assert not [line for line in listed("otel") if re.split(r"[\[>=<]", line)[0] in MODULES["worker"]]
    assert any(line.startswith("torch") for line in listed("worker"))
    (gateway,) = [value for value in values(DOCKER / "gateway.Dockerfile", "RUN") if "requirements.py" in value]
    (worker,) = [value for value in values(DOCKER / "worker.Dockerfile", "RUN") if "requirements.py" in value]
    # Traces are sent by both, so that SPINEPAINT_TRACES_URL is all that it takes.
    assert "requirements.py otel >" in gateway
    assert "requirements.py worker otel >" in worker


def named(line: str) -> str:
    """The name in a requirement or a pin, as PyPI compares them."""
    return canonicalize_name(re.split(r"[\[>=<;! ]", line)[0])


PINNED = {named(line) for line in (ROOT / "constraints.txt").read_text().split()}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_everything_that_is_asked_for_is_pinned() -> None:
    wanted = [*PROJECT["dependencies"], *[line for lines in PROJECT["optional-dependencies"].values() for line in lines]]
    assert {named(line) for line in [*wanted, "hatchling", "cyclonedx-bom"]} <= PINNED


def test_what_that_needs_in_turn_is_pinned_too() -> None:
    extras = PROJECT["optional-dependencies"]
    # Those that `make test` installs; what builds the images is looked at where it is installed (test_install.py).
    left = [
        Requirement(line)
        for line in [*PROJECT["dependencies"], *[line for name in extras if name != "deploy" for line in extras[name]]]
    ]
    seen: set[str] = set()
    while left:
        wanted = left.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        name = canonicalize_name(wanted.name)
        assert name in PINNED, f"{name} is not in constraints.txt"
        for line in distribution(name).requires or []:
            inner = Requirement(line)
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in ["", *wanted.extras]):
                left.append(inner)
    assert any(line.startswith("setuptools") for line in seen)  # which torch asks for


def test_make_images_builds_what_the_deployments_name(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f"#!{sys.executable}\nimport json, sys\nprint('built', json.dumps(sys.argv[1:]))\n")
    docker.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    argv = ["make", "--silent", "images", "PYTHON_DIGEST=@sha256:0f"]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    builds = [json.loads(line.removeprefix("built ")) for line in done.stdout.splitlines() if line.startswith("built ")]
    tags = {words[words.index("--tag") + 1]: words for words in builds}
    kustomization = yaml.safe_load((DOCKER / "kubernetes" / "kustomization.yaml").read_text())
    wanted = {f"{image['name']}:{image['newTag']}" for image in kustomization["images"]}
    services = {service["image"]: service["build"] for service in compose()["services"].values() if "build" in service}
    assert wanted <= services.keys() == tags.keys()
    for image, build in services.items():
        assert f"--file={build['dockerfile']}" in tags[image]
        given = {word.partition("=")[0]: word.partition("=")[2] for word in tags[image] if "=" in word and word[:2] != "--"}
        pinned = {**build["args"], "BASE": build["args"]["BASE"] + "@sha256:0f"}
        assert {name: given[name] for name in pinned} == pinned
        assert len(given["REVISION"]) == 40
