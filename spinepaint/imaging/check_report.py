"""What `spinepaint check` says about a source."""

from dataclasses import dataclass
from typing import Any, Literal

from spinepaint.imaging.errors import Refusal

Verdict = Literal["accepted", "ignored", "refused"]


@dataclass(frozen=True)
class FileVerdict:
    """What became of one file, under the name it was given."""

    file: str
    verdict: Verdict
    reason: str

    def as_dict(self) -> dict[str, str]:
        """The entry of the report's `files`."""
        return {"file": self.file, "verdict": self.verdict, "reason": self.reason}


@dataclass(frozen=True)
class SeriesVerdict:
    """What became of one series."""

    series_uid: str | None
    description: str
    instances: int
    verdict: Verdict
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """The entry of the report's `series`."""
        return {
            "series_uid": self.series_uid,
            "description": self.description,
            "instances": self.instances,
            "verdict": self.verdict,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class CheckReport:
    """The verdict over a source; `refusal` is what `read_series` raises for it, None where it is accepted."""

    chosen_series_uid: str | None
    series: tuple[SeriesVerdict, ...]
    files: tuple[FileVerdict, ...]
    warnings: tuple[str, ...]
    refusal: Refusal | None = None

    @property
    def accepted(self) -> bool:
        """Whether `read_series` would return a series."""
        return self.refusal is None

    def as_dict(self) -> dict[str, Any]:
        """The JSON of `spinepaint check`. A refusal's sentence stands first among the warnings."""
        said = () if self.refusal is None else (str(self.refusal),)
        return {
            "accepted": self.accepted,
            "chosen_series_uid": self.chosen_series_uid,
            "series": [series.as_dict() for series in self.series],
            "files": [file.as_dict() for file in self.files],
            "warnings": [*said, *self.warnings],
        }
