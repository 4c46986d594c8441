"""What the runbook says of backups and of restoring, done with processes in place of containers."""

import re
import shlex
import subprocess
from pathlib import Path

from tests.docker.described import steps
from tests.docker.parts import SERVICES, Parts

IN_POSTGRES = ["docker", "compose", "exec", "-T", "postgres"]
# Of the parts of a test nothing else runs, and PostgreSQL does.
TRUE_HERE = (["stop", "gateway", "worker-cpu"], ["up", "--detach", "--wait", "postgres"])


def dumped(parts: Parts) -> bytes:
    """The database's backup."""
    (line,) = [line for line in steps("Back up") if "pg_dump" in line]
    words = shlex.split(line.partition(" > ")[0])
    assert words[:5] == IN_POSTGRES
    done = parts.tool(*words[5:])
    assert done.returncode == 0, done.stderr
    return bytes(done.stdout)


def database_restored(parts: Parts, dump: bytes) -> bool:
    """Do the steps, each after the one before has succeeded; whether all were done."""
    lines = steps("Restore")
    for command in lines[: lines.index("docker compose run --rm migrate") + 1]:
        words = shlex.split(command.partition(" < ")[0])
        if words[:5] == IN_POSTGRES:
            code = parts.tool(*words[5:], input=dump if " < " in command else None).returncode
        elif words == ["docker", "compose", "run", "--rm", "migrate"]:
            code = parts.once("migrate", *SERVICES["migrate"]["command"]).returncode
        else:
            assert words[-3:] in TRUE_HERE or words[-4:] in TRUE_HERE
            code = 0
        if code:
            return False
    return True


def on_the_bucket_s_volume(section: str, data: Path, backup: Path) -> bool:
    """Run what a section runs in a container, with folders in place of the volume and of the backup's; whether it succeeded."""
    (line,) = [line for line in steps(section) if line.startswith("docker run ")]
    words = shlex.split(line)
    assert re.fullmatch(
        r"docker run --rm --volume spinepaint_objects-data:/data(:ro)? --volume \$PWD:/backup", " ".join(words[:7])
    )
    assert words[7] == SERVICES["postgres"]["image"]
    argv = [word.replace("/data", str(data)).replace("/backup", str(backup)) for word in words[8:]]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
