"""Where the weights are, loaded once a process."""

import threading
from functools import lru_cache
from pathlib import Path

from spinepaint.models.bundle import Bundle, bundle_sha256, load_bundle

DEFAULT_BUNDLE = Path(__file__).parents[1] / "bundles" / "lite"
_loading = threading.Lock()


def loaded_bundle(folder: Path | None = None, device: str = "cpu") -> Bundle:
    """The bundle in `folder`, or the shipped one, on `device`; verified and loaded again only when its sums change."""
    chosen = (folder or DEFAULT_BUNDLE).resolve()
    with _loading:  # jobs that begin together would each load it
        return _load(chosen, bundle_sha256(chosen), device)


@lru_cache(maxsize=2)
def _load(folder: Path, _sha256: str, device: str) -> Bundle:
    return load_bundle(folder, device)
