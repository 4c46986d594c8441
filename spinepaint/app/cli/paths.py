"""Paths as the commands take them.

An empty argument, as an unset variable of a shell leaves it, is no path; and not this folder, which `Path("")` would be.
"""

import os
from pathlib import Path

import typer


def existing(value: str | Path) -> Path:
    """A file or a folder that can be read. Raises typer.BadParameter."""
    path = _given(value)
    if not path.exists():
        raise typer.BadParameter(f"Path '{value}' does not exist.")
    if not os.access(path, os.R_OK):
        raise typer.BadParameter(f"Path '{value}' is not readable.")
    return path


def existing_folder(value: str | Path) -> Path:
    """A folder that can be read. Raises typer.BadParameter."""
    path = existing(value)
    if not path.is_dir():
        raise typer.BadParameter(f"Directory '{value}' is a file.")
    return path


def folder(value: str | Path) -> Path:
    """A folder, or a place for one. Raises typer.BadParameter."""
    path = _given(value)
    if path.exists() and not path.is_dir():
        raise typer.BadParameter(f"Directory '{value}' is a file.")
    return path


def _given(value: str | Path) -> Path:
    if str(value) == "":
        raise typer.BadParameter("The path is empty.")
    return Path(value)
