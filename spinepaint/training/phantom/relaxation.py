"""Signals of T1 weighting, computed from the tissues' relaxation by the spin-echo equation.

S = PD (1 - exp(-TR / T1)) exp(-TE / T2). The table holds values of the order that measurements at 1.5 and 3 T give, rounded;
every examination draws its own around them. T2 signals are drawn directly (`contrast.sample_signals`), since echo trains,
refocusing angles and filters spread them far wider than relaxation does; a test holds their ranges against the same equation.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from spinepaint.training.phantom.contrast import Signals

FAT_SIGNAL = 0.9
# at 3 T water's T1 is longer by about this much; fat's and fluid's hardly change
T1_AT_3T = 1.2


@dataclass(frozen=True)
class Relaxation:
    """Proton density (water = 1), T1 and T2 in ms, at 1.5 T."""

    density: float
    t1_ms: float
    t2_ms: float

    def signal(self, repetition_time_ms: float, echo_time_ms: float, t1_factor: float = 1.0) -> float:
        """The spin-echo signal, as a share of fully relaxed water."""
        recovered = 1 - math.exp(-repetition_time_ms / (self.t1_ms * t1_factor))
        return self.density * recovered * math.exp(-echo_time_ms / self.t2_ms)


# The T2 of fat is that of long echo trains, which refocus its J-coupling.
TISSUES = {
    "csf": Relaxation(1.0, 4000.0, 1800.0),
    "fat": Relaxation(0.95, 300.0, 140.0),
    "red_marrow": Relaxation(0.8, 650.0, 60.0),
    "yellow_marrow": Relaxation(0.75, 320.0, 110.0),
    "neural": Relaxation(0.8, 780.0, 85.0),
    "nucleus": Relaxation(0.85, 1250.0, 140.0),
    "worn_nucleus": Relaxation(0.65, 900.0, 55.0),
    "annulus": Relaxation(0.55, 750.0, 38.0),
    "muscle": Relaxation(0.8, 950.0, 42.0),
    "flavum": Relaxation(0.6, 650.0, 45.0),
    "vein": Relaxation(0.85, 1400.0, 180.0),
    "bowel": Relaxation(0.75, 1000.0, 65.0),
}


def t1_signals(t2: Signals, seed: int, *, repetition_time_ms: float, echo_time_ms: float, field_t: float) -> Signals:
    """The same examination's T1 signals, relative to fat = 0.9; who has bright marrow in T2 has fatty marrow here.

    t2: the examination's T2 signals, whose thicknesses, textures and spread from bone to bone stay.
    """
    rng = np.random.default_rng([seed, 15])
    strong = T1_AT_3T if field_t > 2 else 1.0
    raw = {}
    for name, tissue in TISSUES.items():
        factor = 1.0 if name in ("csf", "fat", "yellow_marrow") else strong
        raw[name] = tissue.signal(repetition_time_ms, echo_time_ms, factor * float(np.exp(rng.normal(0, 0.08))))
        raw[name] *= float(np.exp(rng.normal(0, 0.06)))
    unit = FAT_SIGNAL / raw["fat"]
    s = {name: value * unit for name, value in raw.items()}
    fatty = float(np.clip(0.25 + 1.2 * (t2.marrow - 0.28) + rng.normal(0, 0.06), 0.12, 0.75))
    grades = np.array([0.0, 0.25, 0.55, 0.85, 1.0])
    nucleus = s["nucleus"] * (1 - grades) + s["worn_nucleus"] * grades
    marrow = (1 - fatty) * s["red_marrow"] + fatty * s["yellow_marrow"]
    return replace(
        t2,
        csf=s["csf"], fat=s["fat"], epidural_fat=s["fat"] * t2.epidural_fat / t2.fat,
        anterior_epidural=s["fat"] * t2.anterior_epidural / t2.fat, foramen_fat=s["fat"] * t2.foramen_fat / t2.fat,
        marrow=marrow, posterior_factor=0.5 * (1 + t2.posterior_factor),
        cortex=0.6 * t2.cortex, annulus=s["annulus"], nucleus=nucleus, nucleus_bright=float(nucleus[0]),
        vein=s["vein"], neural=s["neural"], dura=0.5 * (s["csf"] + s["flavum"]), flavum=s["flavum"],
        muscle=s["muscle"], vessel=t2.vessel, bowel=s["bowel"], flow_void=0.0,
    )  # fmt: skip
