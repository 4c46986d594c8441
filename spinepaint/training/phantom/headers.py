"""Header values of real sagittal T2 lumbar series, for the phantom's DICOM headers.

Source: `overview.csv` of SPIDER, J.W. van der Graaf et al., "Lumbar spine segmentation in MR images: a dataset
and a public benchmark", Scientific Data 11:264 (2024), CC BY 4.0; one row for each distinct scanner protocol.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """What a scanner writes about a T2 turbo spin echo series; times in ms, field in T, bandwidth in Hz per pixel."""

    manufacturer: str
    model: str
    field_t: float
    frequency_mhz: float
    echo_time_ms: float
    repetition_time_ms: float
    echo_train: int
    flip_angle_deg: float
    bandwidth_hz: float
    sequence: str
    description: str


PROTOCOLS = (
    Protocol(
        "Philips Healthcare",
        "Ingenia",
        3.0,
        127.771072,
        120.0,
        3563.07250976562,
        25,
        90.0,
        365.0,
        "",
        "T2 TSE SAG",
    ),
    Protocol(
        "Philips Medical Systems",
        "Ingenia",
        1.5,
        63.879145,
        80.0,
        2745.94409179687,
        27,
        90.0,
        280.0,
        "",
        "T2W TSE SAG",
    ),
    Protocol(
        "Philips Medical Systems",
        "Ingenia",
        3.0,
        127.75072,
        80.0,
        4514.302734375,
        27,
        100.0,
        304.0,
        "",
        "T2W TSE SAG",
    ),
    Protocol(
        "SIEMENS",
        "Avanto_fit",
        1.5,
        63.686883,
        114.0,
        3500.0,
        17,
        150.0,
        195.0,
        "*tseR2d1rr17",
        "t2_tse_sag_384",
    ),
    Protocol(
        "SIEMENS",
        "Aera",
        1.5,
        63.676813,
        97.0,
        3500.0,
        19,
        150.0,
        195.0,
        "*tseR2d1rr19",
        "SAG T2 TSE",
    ),
    Protocol(
        "SIEMENS",
        "SymphonyTim",
        1.5,
        63.589518,
        106.0,
        3900.0,
        19,
        150.0,
        161.0,
        "*tseR2d1rr19",
        "t2_tse_sag",
    ),
    Protocol(
        "SIEMENS",
        "Prisma_fit",
        3.0,
        123.235291,
        106.0,
        3300.0,
        19,
        160.0,
        260.0,
        "*tseR2d1rr19",
        "SAG T2 TSE",
    ),
    Protocol(
        "SIEMENS",
        "Avanto",
        1.5,
        63.638243,
        114.0,
        1970.0,
        23,
        160.0,
        182.0,
        "*tseR2d1rr23",
        "T2 TSE SAG",
    ),
)
