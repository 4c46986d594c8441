"""What the deployment's files say, and whether the program knows it."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import typer.main
import yaml
from dockerfile_parse import DockerfileParser

from spinepaint.app.cli import app
from spinepaint.imaging.caps import Caps
from spinepaint.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
OURS = ("spinepaint-gateway", "spinepaint-worker")
# What others read from the environment: obstore and libpq (as we use them), Python, the shell, NVIDIA's container toolkit.
OF_OTHERS = {
    "AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD",
    "PATH", "HOME", "TMPDIR", "NVIDIA_DRIVER_CAPABILITIES",
    "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PIP_DISABLE_PIP_VERSION_CHECK", "PIP_NO_CACHE_DIR",
}  # fmt: skip


def interpolated(text: str) -> str:
    """A compose file with the defaults of its variables, none being set."""
    return re.sub(r"(?<!\$)\$\{\w+:-([^}]*)\}", r"\1", text)


def compose() -> dict[str, Any]:
    """docker-compose.yml, merged and with defaults."""
    return cast(dict[str, Any], yaml.safe_load(interpolated((ROOT / "docker-compose.yml").read_text())))


def manifests() -> list[dict[str, Any]]:
    """Every document of docker/kubernetes but the kustomization."""
    files = sorted(path for path in (DOCKER / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml")
    return [document for path in files for document in yaml.safe_load_all(path.read_text())]


def steps(section: str) -> list[str]:
    """The commands of a section of the runbook, in order, without comments and without what chains them."""
    text = (ROOT / "docs" / "10-runbook.md").read_text()
    (body,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in re.findall(r"^```\n(.*?)^```", body, re.DOTALL | re.MULTILINE) for line in block.splitlines()]
    return [line.split("  #")[0].strip().removesuffix(" &&") for line in lines]


def instructions(dockerfile: Path) -> list[dict[str, Any]]:
    """A Dockerfile's instructions in order: instruction, value, startline."""
    parser = DockerfileParser(fileobj=io.BytesIO(dockerfile.read_bytes()))
    return [entry for entry in parser.structure if entry["instruction"] != "COMMENT"]


def variables(dockerfile: Path) -> dict[str, str]:
    """What ENV gives, in all stages."""
    found: dict[str, str] = {}
    for entry in instructions(dockerfile):
        if entry["instruction"] == "ENV":
            found |= dict(pair.split("=", 1) for pair in entry["value"].split())
    return found


def from_files() -> set[str]:
    """The variables that the images' entrypoint takes as NAME_FILE too."""
    words = re.search(r"for name in (.*?); do", (DOCKER / "entrypoint.sh").read_text(), re.DOTALL)
    assert words is not None
    return set(words.group(1).replace("\\\n", " ").split())


def known_variable(name: str) -> bool:
    """Whether something reads an environment variable: our settings, the entrypoint, or a library."""
    plain = name.removesuffix("_FILE") if name.removesuffix("_FILE") in from_files() else name
    if not plain.startswith("SPINEPAINT_"):
        return plain in OF_OTHERS
    field, _, nested = plain.removeprefix("SPINEPAINT_").lower().partition("__")
    if field not in Settings.model_fields or not nested:
        return field in Settings.model_fields
    if field == "caps":
        return nested in {cap.name for cap in fields(Caps)}
    return nested in getattr(Settings.model_fields[field].annotation, "model_fields", {})


def settings_of(environment: Mapping[str, str]) -> Settings:
    """The settings that plain variables make; raises where a value does not fit."""
    values: dict[str, Any] = {}
    for name, value in environment.items():
        if name.startswith("SPINEPAINT_") and not name.endswith("_FILE"):
            field, _, nested = name.removeprefix("SPINEPAINT_").lower().partition("__")
            values[field] = values.get(field, {}) | {nested: value} if nested else value
    return Settings(**values)


def check_command(words: Sequence[str]) -> None:
    """Raise AssertionError unless `spinepaint WORDS...` names a command, options and arguments that there are."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        assert rest and rest[0] in command.commands, f"spinepaint {' '.join(words)}: no such command"
        command = command.commands[rest.pop(0)]
    options = {name: option for option in command.params for name in [*option.opts, *option.secondary_opts] if name[0] == "-"}
    options |= {"--help": None, "-h": None}
    arguments = sum(option.param_type_name == "argument" for option in command.params)
    given = 0
    while rest:
        name, _, value = rest.pop(0).partition("=")
        if not name.startswith("-"):
            given += 1
            continue
        assert name in options, f"spinepaint {' '.join(words)}: no option {name}"
        takes_value = not getattr(options[name], "is_flag", True)
        if takes_value and not value:
            assert rest, f"spinepaint {' '.join(words)}: {name} needs a value"
            rest.pop(0)
    assert given <= arguments, f"spinepaint {' '.join(words)}: too many arguments"


def containers() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every container of the manifests: the name of what it belongs to, its pod, itself."""
    for document in manifests():
        if document["kind"] in ("Deployment", "Job"):
            pod = document["spec"]["template"]["spec"]
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                yield document["metadata"]["name"], pod, container
