"""docs/10-runbook.md: every command, name and figure in it is one that there is."""

import re
import shlex
from pathlib import Path

import pytest

from spinepaint.app import metrics
from tests.docker.described import ROOT, check_command, compose, interpolated, known_variable, manifests

TEXT = (ROOT / "docs" / "10-runbook.md").read_text()
SERVICES = compose()["services"]
# Of `docker compose`: options that take a value, by command; the words after them name services.
VALUED = {"--profile", "--name", "--scale", "--since"}


def commands() -> list[str]:
    """Every line of a block, and every command in running text, without comments."""
    blocks = re.findall(r"^```\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    quoted = re.findall(
        r"`((?:docker|sh|make|spinepaint|kubectl) [^`]*)`", re.sub(r"^```.*?^```", "", TEXT, flags=re.DOTALL | re.MULTILINE)
    )
    return [line for line in [*lines, *quoted] if line]


def words(command: str) -> list[str]:
    return shlex.split(re.split(r" [<>] ", command)[0])


COMPOSE = [command for command in commands() if command.startswith("docker compose ")]


def test_there_are_commands() -> None:
    assert len(COMPOSE) > 30


@pytest.mark.parametrize("command", COMPOSE)
def test_compose_is_asked_for_services_and_commands_that_there_are(command: str) -> None:
    rest = words(command)[2:]
    profiles = {profile for service in SERVICES.values() for profile in service.get("profiles", [])}
    while rest[0].startswith("-"):
        assert rest[0] == "--profile"
        assert rest[1] in profiles
        rest = rest[2:]
    verb, rest = rest[0], rest[1:]
    assert verb in {"up", "run", "exec", "stop", "start", "restart", "build", "logs", "ps", "down"}
    named = []
    while rest:
        word = rest.pop(0)
        if word in VALUED:
            value = rest.pop(0)
            if word == "--scale":
                named.append(value.split("=")[0])
        elif not word.startswith("-"):
            named.append(word)
            if verb in ("run", "exec"):
                break
    assert set(named) <= set(SERVICES), command
    if verb == "run" and rest:
        check_command(rest)
    # A service of a profile is started only with its profile, or by name.
    if verb in ("up", "stop", "restart") and any("profiles" in SERVICES[name] for name in named):
        assert "--profile" in command


def test_spinepaint_s_own_commands() -> None:
    found = [command for command in commands() if command.startswith("spinepaint ")]
    found += [command.split(" -- spinepaint ")[1] for command in commands() if " -- spinepaint " in command]
    assert found
    for command in found:
        check_command(shlex.split(command.removeprefix("spinepaint ")))


def test_settings_paths_figures_and_objects() -> None:
    for name in set(re.findall(r"SPINEPAINT_[A-Z_]+", TEXT)):
        # What the compose file itself reads is no setting of the program.
        assert known_variable(name) or f"${{{name}:-" in (ROOT / "docker-compose.yml").read_text(), name
    source = Path(metrics.__file__).read_text()
    for figure in set(re.findall(r"`(spinepaint_\w+)", TEXT)):
        assert f'"{figure.removesuffix("_total")}"' in source, figure
    for path in set(re.findall(r"\bdocker/[\w./-]+\w", TEXT)):
        if path.startswith("docker/secrets/"):
            assert compose()["secrets"][Path(path).name]
        elif path != "docker/secrets":
            assert (ROOT / path).exists(), path
    objects = {(one["kind"].lower(), one["metadata"]["name"]) for one in manifests()}
    for command in commands():
        for kind, name in re.findall(r"(deployment|job|scaledobject)[ /](spinepaint-\w+)", command):
            assert (kind, name) in objects
    for volume in re.findall(r"spinepaint_([\w-]+):/", TEXT):
        assert volume in compose()["volumes"]
    assert interpolated("${SPINEPAINT_PUBLISH:-127.0.0.1:8000}") in TEXT


def test_every_subject_has_its_section() -> None:
    sections = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    assert sections == [
        "First install", "Back up", "Restore", "Upgrade", "Roll back", "Drain a worker", "Rotate", "What each alert means",
        "A job hangs", "Disk full", "Broker lost", "Database lost", "Bucket lost", "Clocks", "Kubernetes",
    ]  # fmt: skip
