"""docker-compose.yml: by the specification, and naming nothing that there is not."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from compose_spec import PyCompose

from spinepaint.app.routes.service import router
from tests.docker.described import (
    ROOT,
    check_command,
    compose,
    instructions,
    known_variable,
    settings_of,
    variables,
)

SERVICES: dict[str, dict[str, Any]] = compose()["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("spinepaint-")}
ONE_SHOT = {"migrate", "bucket"}
WORKERS = {"worker-cpu", "worker-gpu"}


def dockerfile(service: dict[str, Any]) -> Path:
    return ROOT / service["build"]["context"] / service["build"]["dockerfile"]


def test_it_is_as_the_specification_has_it_and_refers_to_what_it_defines() -> None:
    parsed = PyCompose.from_json(json.dumps(compose()))
    parsed.validate()
    assert set(parsed.service_names()) == {
        "gateway", "worker-cpu", "worker-gpu", "migrate", "postgres", "valkey", "objects", "bucket",
    }  # fmt: skip


def test_the_volumes_are_there() -> None:
    named = {
        volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", []) if isinstance(volume, str)
    }
    assert named == set(compose()["volumes"])


def test_the_check_finds_a_misspelt_key_and_a_secret_that_is_not_there() -> None:
    misspelt = compose()
    misspelt["services"]["gateway"]["helthcheck"] = {}
    with pytest.raises(ValueError, match="helthcheck"):
        PyCompose.from_json(json.dumps(misspelt))
    lost = compose()
    del lost["secrets"]["s3_config"]
    with pytest.raises(ValueError, match="s3_config"):
        PyCompose.from_json(json.dumps(lost)).validate()


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_pinned_hardened_bounded_and_keeps_its_logs_small(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"\S+:[\w.-]*\d[\w.-]*", service["image"])
    assert not service["image"].endswith(":latest")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    limits = service["deploy"]["resources"]["limits"]
    assert float(limits["cpus"]) > 0
    assert limits["memory"]
    if name in ONE_SHOT:
        assert service["restart"] == "no"
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"]


def test_what_is_waited_for_can_come_to_be_so() -> None:
    for service in SERVICES.values():
        for other, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert SERVICES[other]["healthcheck"]["test"]
            else:
                assert wanted["condition"] == "service_completed_successfully"
                assert other in ONE_SHOT
    for name in {"gateway", *WORKERS}:
        assert SERVICES[name]["depends_on"].keys() == {"migrate", "bucket", "valkey"}


@pytest.mark.parametrize("name", OURS)
def test_our_commands_and_variables_are_the_program_s(name: str) -> None:
    service = OURS[name]
    assert dockerfile(service).is_file()
    for variable in service["environment"]:
        assert known_variable(variable), variable
    last = [entry for entry in instructions(dockerfile(service)) if entry["instruction"] == "CMD"][-1]
    command = service.get("command") or json.loads(last["value"])
    check_command(command)
    settings = settings_of(variables(dockerfile(service)) | service["environment"])
    assert not settings.migrate_at_start
    if name in WORKERS:
        assert command == ["worker"]
        assert seconds(service["stop_grace_period"]) > settings.shutdown_grace_s + 5
    if name == "gateway":
        assert command == ["serve", "--no-worker"]
        assert service["ports"] == [f"127.0.0.1:8000:{settings.port}"]
        assert 2 * settings.caps.reader_memory_bytes <= 4 * 2**30
        assert "/health/live" in {route.path for route in router.routes}  # type: ignore[attr-defined]


def test_temporary_files_lie_on_a_volume() -> None:
    for name in {"gateway", *WORKERS}:
        mounts = [
            volume if isinstance(volume, dict) else {"target": volume.split(":")[1]} for volume in SERVICES[name]["volumes"]
        ]
        given = variables(dockerfile(SERVICES[name])) | SERVICES[name]["environment"]
        assert any(Path(given["TMPDIR"]).is_relative_to(mount["target"]) for mount in mounts)


def seconds(duration: str) -> float:
    assert duration.endswith("s")
    return float(duration[:-1])


def test_the_stores_ask_for_keys_and_are_reached_from_within_alone() -> None:
    for name in ("postgres", "valkey", "objects"):
        assert "ports" not in SERVICES[name]
        assert SERVICES[name]["networks"] == ["back"]
    assert compose()["networks"]["back"]["internal"] is True
    command = SERVICES["objects"]["command"]
    assert "-ip.bind=127.0.0.1" in command
    assert "-s3.config=/run/secrets/s3_config" in command


def test_a_gpu_is_asked_for_where_the_profile_says_so() -> None:
    (device,) = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert "reservations" not in SERVICES["worker-cpu"]["deploy"]["resources"]
    assert (SERVICES["worker-gpu"]["profiles"], SERVICES["worker-cpu"]["profiles"]) == (["gpu"], ["cpu"])
    for service in OURS.values():
        names = {entry["value"].split("=")[0] for entry in instructions(dockerfile(service)) if entry["instruction"] == "ARG"}
        assert service["build"]["args"].keys() <= names
        # Unless pinned, the base that a plain `docker build` has.
        assert f"BASE={service['build']['args']['BASE']}" in {entry["value"] for entry in instructions(dockerfile(service))}


def test_no_secret_stands_in_it_and_each_comes_from_a_file_that_the_script_draws() -> None:
    script = (ROOT / "docker" / "secrets.sh").read_text()
    for name, secret in compose()["secrets"].items():
        assert secret == {"file": f"docker/secrets/{name}"}
        assert re.search(rf"keep {name}$", script, re.MULTILINE), name
    assert "/docker/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    for service in SERVICES.values():
        mounted = {f"/run/secrets/{name}" for name in service.get("secrets", [])}
        for variable, value in service.get("environment", {}).items():
            if variable.endswith("_FILE"):
                assert value in mounted
            else:
                assert not re.search(r"password|secret|://[^/@]*:[^/@]*@|key", f"{variable}={value}", re.IGNORECASE), variable


def test_a_worker_has_a_scratch_of_its_own() -> None:
    # The entrypoint clears it at every start, which would be another worker's too if there were one.
    for name in WORKERS:
        assert SERVICES[name]["volumes"] == [{"type": "volume", "target": "/var/lib/spinepaint"}]
