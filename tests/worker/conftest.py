"""A phantom series, and a finished job with a place to deliver its result to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from spinepaint.settings import Settings
from spinepaint.training.phantom import Phantom, make_phantom, write_series
from tests.imaging.series_factory import make_series
from tests.worker.offices import SIZE, Office
from tests.worker.receivers import WebReceiver, web_receiver
from tests.worker.workplaces import open_stores


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return make_phantom(11, slices=15, matrix=320)


@pytest.fixture(scope="session")
def series(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    write_series(phantom, folder, seed=11)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_series(tmp_path_factory.mktemp("result"), **SIZE)


@pytest.fixture
def office(tmp_path: Path, files: list[Path]) -> Iterator[Office]:
    office = Office(Settings(data_dir=tmp_path), *open_stores(tmp_path), files)
    office.finish()
    yield office
    office.ledger.close()


@pytest.fixture
def web() -> Iterator[WebReceiver]:
    with web_receiver() as receiver:
        yield receiver
