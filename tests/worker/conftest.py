"""A phantom series, and the shipped bundle's pipeline at few steps."""

from pathlib import Path

import pytest

from spinepaint.training.phantom import Phantom, make_phantom, write_series


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return make_phantom(11, slices=15, matrix=320)


@pytest.fixture(scope="session")
def series(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    write_series(phantom, folder, seed=11)
    return folder
