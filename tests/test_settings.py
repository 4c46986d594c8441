import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from spinepaint.settings import Settings


def test_the_embedded_stores_lie_in_the_data_folder(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    assert settings.artifacts_url == str(tmp_path / "artifacts")


def test_the_environment_names_a_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINEPAINT_DATABASE_URL", "postgresql://db/spinepaint")
    monkeypatch.setenv("SPINEPAINT_ARTIFACTS_URL", "s3://bucket/prefix")
    monkeypatch.setenv("SPINEPAINT_CAPS__UPLOAD_FILES", "7")
    settings = Settings()
    assert (settings.database_url, settings.artifacts_url) == ("postgresql://db/spinepaint", "s3://bucket/prefix")
    assert settings.caps.upload_files == 7
    assert settings.data_dir.is_absolute()


def test_the_key_of_pseudonyms_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINEPAINT_DEIDENTIFY_KEY", "hunter2")
    settings = Settings()
    assert settings.deidentify_key.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    "wrong", [{"port": 70000}, {"max_attempts": 0}, {"heartbeat_s": 0}, {"stale_after_s": 5, "heartbeat_s": 5}, {"prot": 1}]
)
def test_settings_that_cannot_work_are_refused_at_the_start(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(wrong)


def test_reading_the_settings_loads_neither_torch_nor_a_database() -> None:
    program = "import sys, spinepaint.settings; sys.exit(any(name in sys.modules for name in ('torch', 'sqlalchemy', 'celery')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
