"""Where the weights are, loaded once a process."""

from functools import lru_cache
from pathlib import Path

from spinepaint.models.bundle import Bundle, bundle_sha256, load_bundle

DEFAULT_BUNDLE = Path(__file__).parents[1] / "bundles" / "lite"


def loaded_bundle(folder: Path | None = None) -> Bundle:
    """The bundle in `folder`, or the shipped one; verified and loaded again only when its sums change."""
    chosen = (folder or DEFAULT_BUNDLE).resolve()
    return _load(chosen, bundle_sha256(chosen))


@lru_cache(maxsize=2)
def _load(folder: Path, _sha256: str) -> Bundle:
    return load_bundle(folder)
