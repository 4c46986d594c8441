"""A bundle of weights from somebody else: whatever it holds, nothing of it is run."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from spinepaint.models.bundle import BundleError, load_bundle, seal

LITE = Path(__file__).parents[2] / "spinepaint" / "bundles" / "lite"


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    for path in LITE.iterdir():
        if path.suffix == ".safetensors":
            (folder / path.name).symlink_to(path)  # they are large; what is spoilt below takes the link's place
        else:
            shutil.copy(path, folder)
    return folder


def pickled(trap: Path) -> bytes:
    """A pickle that is a trap, after seeing that it is one."""
    content = pickle.dumps(Trap(trap))
    pickle.loads(content)
    assert trap.exists()
    trap.unlink()
    return content


@pytest.mark.parametrize("name", ["autoencoder", "inpainter", "localiser"])
def test_a_pickle_under_the_name_of_weights_is_refused_and_not_run(bundle: Path, tmp_path: Path, name: str) -> None:
    """CVE-2025-32434, and all of its kind: its checksum is right, as whoever makes a bundle makes its checksums."""
    path = bundle / f"{name}.safetensors"
    path.unlink()
    path.write_bytes(pickled(tmp_path / "sprung"))
    seal(bundle)
    with pytest.raises(BundleError):
        load_bundle(bundle)
    assert not (tmp_path / "sprung").exists()


def test_a_checkpoint_of_torch_under_the_name_of_weights_is_refused_and_not_run(bundle: Path, tmp_path: Path) -> None:
    path = bundle / "inpainter.safetensors"
    path.unlink()
    torch.save({"state": Trap(tmp_path / "sprung")}, path)
    seal(bundle)
    with pytest.raises(BundleError):
        load_bundle(bundle)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("length", [2**62, 10**9, 0])
def test_a_head_of_weights_that_is_too_long_is_refused(bundle: Path, length: int) -> None:
    path = bundle / "localiser.safetensors"
    path.unlink()
    path.write_bytes(length.to_bytes(8, "little") + b"{}")
    seal(bundle)
    with pytest.raises(BundleError):
        load_bundle(bundle)
