"""The one registry of pathologies, severities, functional spinal units and their codes.

The CLI's choices, the API's enums, the conditioning indices of the networks and the codes in the
labels all come from here, so that they cannot drift apart.
"""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class Code:
    """A coded concept: value, coding scheme designator and meaning (PS3.3 8.8)."""

    value: str
    scheme: str
    meaning: str


class Pathology(StrEnum):
    """What can be painted."""

    DISC_HERNIATION = "disc_herniation"
    CENTRAL_CANAL_STENOSIS = "central_canal_stenosis"


class Severity(StrEnum):
    """How much of it; which severities go with which pathology is in `SEVERITIES`."""

    SMALL = "small"
    MODERATE_LARGE = "moderate_large"
    MODERATE = "moderate"
    SEVERE = "severe"


class Fsu(StrEnum):
    """Functional spinal units, cranial to caudal: a disc and its two vertebrae."""

    L1_L2 = "L1-L2"
    L2_L3 = "L2-L3"
    L3_L4 = "L3-L4"
    L4_L5 = "L4-L5"
    L5_S1 = "L5-S1"


SEVERITIES: dict[Pathology, tuple[Severity, ...]] = {
    Pathology.DISC_HERNIATION: (Severity.SMALL, Severity.MODERATE_LARGE),
    Pathology.CENTRAL_CANAL_STENOSIS: (Severity.MODERATE, Severity.SEVERE),
}

CONDITIONS: tuple[tuple[Pathology, Severity], ...] = tuple(
    (pathology, severity) for pathology, severities in SEVERITIES.items() for severity in severities
)

# SNOMED CT's codes below are in DICOM's own subset of it. That subset has neither pathology, so these have those of
# ICD-10, which is public; no code here is private, so that every receiver can look each of them up.
PATHOLOGY_CODES: dict[Pathology, Code] = {
    Pathology.DISC_HERNIATION: Code("M51.2", "I10", "Intervertebral disc displacement (herniation)"),
    Pathology.CENTRAL_CANAL_STENOSIS: Code("M48.0", "I10", "Spinal stenosis (central canal)"),
}
SEVERITY_CODES: dict[Severity, Code] = {
    Severity.SMALL: Code("255507004", "SCT", "Small"),
    Severity.MODERATE_LARGE: Code("371924009", "SCT", "Moderate to severe"),
    Severity.MODERATE: Code("6736007", "SCT", "Moderate"),
    Severity.SEVERE: Code("24484000", "SCT", "Severe"),
}
FSU_CODES: dict[Fsu, Code] = {
    Fsu.L1_L2: Code("80064006", "SCT", "L1/L2 disc"),
    Fsu.L2_L3: Code("67459009", "SCT", "L2/L3 disc"),
    Fsu.L3_L4: Code("62551000", "SCT", "L3/L4 disc"),
    Fsu.L4_L5: Code("84020006", "SCT", "L4/L5 disc"),
    Fsu.L5_S1: Code("715056000", "SCT", "L5/S1 disc"),
}
# Whether a finding was measured as it was asked for.
CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
VERIFIED_CODES: dict[bool, Code] = {
    True: Code("52101004", "SCT", "Present"),
    False: Code("42425007", "SCT", "Equivocal"),
}
LUMBAR_SPINE = Code("122496007", "SCT", "Lumbar spine")
VERTEBRAL_CANAL = Code("61853006", "SCT", "Vertebral canal")


def condition_index(pathology: Pathology, severity: Severity) -> int:
    """Index of a (pathology, severity) pair among the networks' conditions, from 0.

    Raises ValueError where the severity does not belong to the pathology.
    """
    if severity not in SEVERITIES[pathology]:
        allowed = ", ".join(SEVERITIES[pathology])
        raise ValueError(f"severity {severity.value!r} does not go with {pathology.value}; choose one of: {allowed}")
    return CONDITIONS.index((pathology, severity))


def fsu_index(fsu: Fsu) -> int:
    """Index of an FSU among the networks' conditions, 0 for L1-L2 to 4 for L5-S1."""
    return list(Fsu).index(fsu)
