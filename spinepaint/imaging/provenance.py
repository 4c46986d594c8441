"""What every synthetic object says about its own origin: the marks, their codes and their words, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID

from spinepaint.imaging.uids import canonical_json, uid_from
from spinepaint.imaging.vocabulary import (
    Code,
    Fsu,
    Pathology,
    Severity,
)

SYNTHESIZING_EQUIPMENT = Code("109100", "DCM", "Synthesizing Equipment")  # CID 7005
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")  # CID 7202
# CID 7203 has no code for generated content, and is extensible. The algorithm family of CID 7162 says how it came
# about in a code that every reader knows; Derivation Description says the rest.
DERIVATION = Code("123110", "DCM", "Artificial Intelligence")

MARKS: dict[str, Any] = {
    "SyntheticData": "YES",
    "ContentQualification": "RESEARCH",
}
"""What the series, its segmentation and its report have in common."""

IMAGE_TYPE = ["DERIVED", "SECONDARY", "OTHER"]  # the MR Image IOD requires the third value (PS3.3 C.8.3.1.1.1)

_SHORT_TEXT = 1024  # characters of an ST (PS3.5 6.2)
_LONG_STRING = 64  # characters of an LO
_SHORT_STRING = 16  # characters of an SH
_NAMED_IN_DERIVATION = ("method", "solver", "steps", "sigma_mm", "seed", "sample")


@dataclass(frozen=True)
class Provenance:
    """Where a synthetic series comes from, beyond its source.

    Attributes
    ----------
    version: of this software.
    bundle_name, bundle_sha256: the weight bundle that painted it.
    pathology, severity, fsu: what was painted, and at which level.
    spec: the job as resolved: seed, sample index, method, solver, steps and the rest, as JSON values.
    landmark_lps_mm: centre of the edit, patient LPS in mm.
    """

    version: str
    bundle_name: str
    bundle_sha256: str
    pathology: Pathology
    severity: Severity
    fsu: Fsu
    spec: Mapping[str, Any]
    landmark_lps_mm: tuple[float, float, float]

    def uid(self, *names: str) -> UID:
        """UID of the object that `names` tell apart from the others made with this provenance."""
        return uid_from(
            self.version,
            self.bundle_name,
            self.bundle_sha256,
            self.pathology.value,
            self.severity.value,
            self.fsu.value,
            canonical_json(self.spec),
            ",".join(repr(float(x)) for x in self.landmark_lps_mm),
            *names,
        )

    def finding(self) -> str:
        """Level, pathology and severity in a few words, such as "L4-L5 disc herniation, moderate large"."""
        return f"{self.fsu.value} {self.pathology.value}, {self.severity.value}".replace("_", " ")


def code_item(code: Code) -> Dataset:
    """Item of a code sequence (PS3.3 8.8). A value of more than 16 characters goes into Long Code Value."""
    item = Dataset()
    if len(code.value) > _SHORT_STRING:
        item.LongCodeValue = code.value
    else:
        item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = code.meaning
    return item


def contribution_description(provenance: Provenance) -> str:
    """Contribution Description: the weight bundle and its SHA-256."""
    return printable(
        f"Weight bundle {provenance.bundle_name}, SHA-256 {provenance.bundle_sha256}",
        _SHORT_TEXT,
    )


def contributing_equipment_item(provenance: Provenance) -> Dataset:
    """Item of the Contributing Equipment Sequence that names this software as the synthesizing equipment."""
    item = Dataset()
    item.Manufacturer = "Spinepaint"
    item.ManufacturerModelName = "Spinepaint"
    item.SoftwareVersions = printable(provenance.version, _LONG_STRING)
    item.ContributionDescription = contribution_description(provenance)
    item.PurposeOfReferenceCodeSequence = DicomSequence([code_item(SYNTHESIZING_EQUIPMENT)])
    return item


def derivation_description(provenance: Provenance) -> str:
    """Derivation Description: what was done, in words, at most 1024 characters."""
    x, y, z = provenance.landmark_lps_mm
    named = ", ".join(f"{key} {provenance.spec[key]}" for key in _NAMED_IN_DERIVATION if key in provenance.spec)
    text = (
        f"Synthetic: {provenance.finding()}. Inpainted by latent diffusion around patient LPS ({x:.1f}, {y:.1f}, {z:.1f}) mm"
        f"{f' with {named}' if named else ''}. Outside the edited region the stored values are those of the source."
    )
    return printable(text, _SHORT_TEXT)


def series_description(provenance: Provenance, source: str) -> str:
    """Series Description: that the series is synthetic, of what, and as far as it fits what the source was called."""
    return f"{printable(f'SYNTHETIC {provenance.finding()}', _LONG_STRING)}: {source}"[:_LONG_STRING].rstrip(": ")


def implementation_version_name(version: str) -> str:
    """Implementation Version Name of the File Meta Information, at most 16 characters."""
    return printable(f"SPINEPAINT_{version}", _SHORT_STRING)


def printable(text: str, characters: int) -> str:
    """`text` cut to length, with what no character set or value separator could carry replaced by a question mark."""
    return "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in text)[:characters].strip()
