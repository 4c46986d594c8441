"""The tissues and levels that the phantom's label volumes name."""

from enum import IntEnum, StrEnum


class Weighting(StrEnum):
    """Contrast of a series."""

    T1 = "T1"
    T2 = "T2"


class Tissue(IntEnum):
    """Label of a voxel: the tissue that fills most of it."""

    BACKGROUND = 0
    VERTEBRA = 1
    ANNULUS = 2
    NUCLEUS = 3
    HERNIATION = 4
    CSF = 5
    NEURAL = 6
    EPIDURAL_FAT = 7
    FLAVUM = 8
    POSTERIOR_ELEMENTS = 9
    FORAMEN = 10
    MUSCLE = 11
    FAT = 12
    VESSEL = 13
    BOWEL = 14
    SCHMORL_NODE = 15


DISC_TISSUES = (Tissue.ANNULUS, Tissue.NUCLEUS, Tissue.HERNIATION)
CANAL_TISSUES = (Tissue.CSF, Tissue.NEURAL, Tissue.EPIDURAL_FAT)

# Cranial to caudal. In `Phantom.levels` a vertebra has its place here + 1, and a disc that of the vertebra above it.
VERTEBRAE = ("T8", "T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1", "S2", "S3", "S4")
T12, L1, L2, L3, L4, L5, S1, S2, S3 = (VERTEBRAE.index(name) for name in ("T12", "L1", "L2", "L3", "L4", "L5", "S1", "S2", "S3"))
FSU_UPPER = {"L1-L2": L1, "L2-L3": L2, "L3-L4": L3, "L4-L5": L4, "L5-S1": L5}
