"""Header values of real sagittal lumbar series, for the phantom's DICOM headers.

Source: `overview.csv` of SPIDER, J.W. van der Graaf et al., "Lumbar spine segmentation in MR images: a dataset
and a public benchmark", Scientific Data 11:264 (2024), CC BY 4.0; one row for each distinct scanner protocol. T1 is what the
same scanner wrote of the same examination; the third had none there, and has the T1 times of its maker at 1.5 T.
"""

from dataclasses import dataclass, replace

import numpy as np

from spinepaint.training.phantom.tissues import Weighting


@dataclass(frozen=True)
class Protocol:
    """What a scanner writes about a turbo spin echo series; times in ms, field in T, bandwidth in Hz per pixel."""

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


def _t1(place: int, te: float, tr: float, train: int, flip: float, bandwidth: float, sequence: str, description: str) -> Protocol:
    return replace(
        PROTOCOLS[place], echo_time_ms=te, repetition_time_ms=tr, echo_train=train, flip_angle_deg=flip, bandwidth_hz=bandwidth,
        sequence=sequence, description=description,
    )  # fmt: skip


# In the order of PROTOCOLS, scanner by scanner.
T1_PROTOCOLS = (
    _t1(0, 13.837, 716.234375, 7, 85.0, 488.0, "", "T1 TSE SAG"),
    _t1(1, 8.0, 575.0001220703119, 5, 80.0, 199.0, "", "CS T1 TSE SAG"),
    _t1(2, 8.0, 575.0001220703119, 5, 80.0, 304.0, "", "T1W TSE SAG"),
    _t1(3, 9.6, 660.0, 3, 150.0, 235.0, "*tse2d1_3", "t1_tse_sag_320"),
    _t1(4, 9.7, 617.0, 3, 150.0, 235.0, "*tse2d1_3", "SAG T1 TSE"),
    _t1(5, 11.0, 446.0, 4, 150.0, 161.0, "*tse2d1_4", "SAG T1 TSE"),
    _t1(6, 9.5, 450.0, 4, 160.0, 260.0, "*tse2d1_4", "t1_tse_sag"),
    _t1(7, 11.0, 627.0, 3, 150.0, 161.0, "*tse2d1_3", "t1_tse_sag_384"),
)


def header_draws(seed: int, weighting: Weighting) -> tuple[Protocol, np.random.Generator]:
    """The protocol that `seed` draws, with the same scanner for both weightings, and the generator for the rest of the header."""
    rng = np.random.default_rng([seed, 11])
    place = int(rng.integers(len(PROTOCOLS)))
    return (PROTOCOLS if weighting is Weighting.T2 else T1_PROTOCOLS)[place], rng
