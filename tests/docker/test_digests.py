"""docker/digests.sh: what pins the images that are not ours."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docker.described import DOCKER, ROOT


@pytest.fixture
def digests(tmp_path: Path) -> Any:
    """Runs digests.sh with a stand-in for `docker` that answers a digest made of the name, or nothing."""
    program = tmp_path / "docker"
    program.write_text(
        '#!/bin/sh\n[ "$*" = "buildx imagetools inspect --format {{.Manifest.Digest}} $6" ] || exit 3\n$ANSWER "$6"\n'
    )
    program.chmod(0o755)

    def run(answer: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ANSWER": answer}
        return subprocess.run(["sh", str(DOCKER / "digests.sh")], env=environment, capture_output=True, text=True, check=False)

    return run


def test_every_image_from_elsewhere_is_pinned_by_what_the_script_prints(digests: Any) -> None:
    done = digests("printf sha256:%s")
    assert done.returncode == 0, done.stderr
    pins = dict(line.split("=", 1) for line in done.stdout.splitlines())
    text = (ROOT / "docker-compose.yml").read_text()
    for name, value in pins.items():
        text = text.replace(f"${{{name}:-}}", value)
    services = yaml.safe_load(text)["services"].values()
    foreign = [one["image"] for one in services if "build" not in one]
    foreign += [one["build"]["args"]["BASE"] for one in services if "build" in one]
    assert len(set(foreign)) == len(pins) == 4
    for image in foreign:
        plain, _, digest = image.partition("@")
        assert digest == f"sha256:{plain}"


@pytest.mark.parametrize("answer", ["false", "true", "echo 404"])
def test_a_registry_without_an_answer_pins_nothing(digests: Any, answer: str) -> None:
    done = digests(answer)
    assert done.returncode != 0
    assert not done.stdout
