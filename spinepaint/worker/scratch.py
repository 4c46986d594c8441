"""The folders in which attempts work. They hold patients' images, so what a killed worker left is cleared away."""

import shutil
import socket
from pathlib import Path

import psutil


def own_scratch(root: Path, pid: int) -> Path:
    """An empty folder for process `pid` of this host; those of this host's ended processes are deleted."""
    host = socket.gethostname()
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    mine = root / f"{host}.{pid}"
    for folder in root.iterdir():
        name, _, owner = folder.name.rpartition(".")
        if name == host and owner.isdecimal() and (folder == mine or not psutil.pid_exists(int(owner))):
            shutil.rmtree(folder, ignore_errors=True)
    mine.mkdir(mode=0o700)
    return mine
