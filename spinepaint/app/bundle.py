"""What can be said of the weights without loading them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import spinepaint
from spinepaint.settings import Settings

SHIPPED = Path(spinepaint.__file__).parent / "bundles" / "lite"


def bundle_folder(settings: Settings) -> Path:
    """The folder of the weights that the workers load."""
    return settings.bundle or SHIPPED


def describe_bundle(folder: Path) -> dict[str, Any] | None:
    """The bundle's name and SHA-256, as reports give them; None where there is no bundle."""
    try:
        config = json.loads((folder / "config.json").read_text())
        return {"name": str(config["name"]), "sha256": hashlib.sha256((folder / "SHA256SUMS").read_bytes()).hexdigest()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
