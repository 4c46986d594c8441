"""docs/10-runbook.md: every command, name and figure in it is one that there is."""

import re
import shlex
from pathlib import Path

import pytest

from spinepaint.app import metrics
from tests.docker.described import ROOT, check_command, compose, interpolated, known_variable, manifests, steps

TEXT = (ROOT / "docs" / "10-runbook.md").read_text()
SERVICES = compose()["services"]
# Of `docker compose`: options that take a value, by command; the words after them name services.
VALUED = {"--profile", "--name", "--scale", "--since"}


def commands() -> list[str]:
    """Every line of a block, and every command in running text, without comments."""
    blocks = re.findall(r"^```\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    lines = [line.split("  #")[0].strip().removesuffix(" &&") for block in blocks for line in block.splitlines()]
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
    assert verb in {"up", "run", "exec", "stop", "start", "restart", "build", "logs", "ps", "rm", "config"}
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
    if verb in ("up", "stop", "restart", "rm") and any("profiles" in SERVICES[name] for name in named):
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
    volumes = re.findall(r"spinepaint_([\w-]+):/", TEXT) + re.findall(
        r"docker volume rm spinepaint_([\w-]+)$", TEXT, re.MULTILINE
    )
    assert len(volumes) > 3
    for volume in volumes:
        assert volume in compose()["volumes"]
    assert interpolated("${SPINEPAINT_PUBLISH:-127.0.0.1:8000}") in TEXT


def running_after(commands: list[str]) -> set[str]:
    """The services that run once these commands are through, all of them having run before."""
    running = set(SERVICES) - {"worker-gpu", "migrate", "bucket"}
    for command in commands:
        if command.startswith("docker compose "):
            rest = [word for word in words(command)[2:] if word not in ("--profile", "cpu")]
            named = {word for word in rest[1:] if word in SERVICES}
            if rest[0] == "exec":
                assert rest[1:3] == ["-T", "postgres"]
                assert "postgres" in running, command
            elif rest[0] == "run":
                running |= {"postgres"}  # which migrate depends on
            else:
                running = running | named if rest[0] in ("up", "start") else running - named
        for service, volume in (("postgres", "postgres-data"), ("objects", "objects-data")):
            # Neither is a volume taken away nor are its files changed while its store runs.
            if f"spinepaint_{volume}:/" in command or command.endswith(f"rm spinepaint_{volume}"):
                assert service not in running, command
    return running


@pytest.mark.parametrize("sections", [["Restore"], ["Database lost", "Restore"], ["Bucket lost", "Restore"], ["Back up"]])
def test_what_a_step_needs_runs_by_then_and_what_it_would_spoil_does_not(sections: list[str]) -> None:
    commands = [command for section in sections for command in steps(section)]
    running = running_after(commands)
    if "Restore" in sections:
        assert not running & {"gateway", "worker-cpu", "objects"}
        assert "Then `docker compose --profile cpu up --detach`" in TEXT
    else:
        assert "objects" in running


def test_a_lost_store_s_volume_is_taken_away_with_the_containers_that_hold_it() -> None:
    for section, store, volume in (("Database lost", "postgres", "postgres-data"), ("Bucket lost", "objects", "objects-data")):
        lines = steps(section)
        removed = lines.index(f"docker volume rm spinepaint_{volume}")
        holders = {
            name for name, service in SERVICES.items() if any(str(one).startswith(volume) for one in service.get("volumes", []))
        }
        assert holders == {store}
        assert any(store in words(line) and {"rm", "--stop", "--force"} <= set(words(line)) for line in lines[:removed])
        for line in lines:
            if line.startswith("docker compose up"):
                assert "--detach" in words(line)


def test_nothing_of_an_old_version_runs_over_a_new_schema() -> None:
    lines = [line for line in steps("Kubernetes") if "spinepaint" in line]
    (waits,) = [line for line in lines if "--for=delete" in line]
    selector = words(waits)[words(waits).index("--selector") + 1]
    key, names = re.fullmatch(r"(\S+) in \((.*)\)", selector).groups()  # type: ignore[union-attr]
    pods: dict[str, set[str]] = {"Deployment": set(), "Job": set()}
    for one in manifests():
        if one["kind"] in pods:
            pods[one["kind"]].add(one["spec"]["template"]["metadata"]["labels"][key])
    assert set(names.split(",")) == pods["Deployment"]
    assert not set(names.split(",")) & pods["Job"]
    stopped = [index for index, line in enumerate(lines) if "paused-replicas=0" in line or "--replicas=0" in line]
    assert len(stopped) == 2
    assert max(stopped) < lines.index(waits) < lines.index("kubectl --namespace spinepaint delete job spinepaint-migrate")


def test_every_subject_has_its_section() -> None:
    sections = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    assert sections == [
        "First install", "Pin the images", "Back up", "Restore", "Upgrade", "Roll back", "Drain a worker", "Rotate",
        "What each alert means",
        "A job hangs", "Disk full", "Broker lost", "Database lost", "Bucket lost", "Clocks", "Kubernetes",
    ]  # fmt: skip
