"""The paper's Tables 1 and S2: FID, KID and MS-SSIM by level and condition, each method beside the floor at the same N."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinepaint.imaging.vocabulary import CONDITIONS
from spinepaint.training.evaluation.cases import LEVELS, Cases, condition_name
from spinepaint.training.evaluation.distances import FEW, Interval, frechet_distance, kernel_distance
from spinepaint.training.evaluation.similarity import diversity

FLOOR = "real against real"
ALL = "all levels"


@dataclass(frozen=True)
class Set:
    """Cases and the features (N, S, D) of their patches."""

    cases: Cases
    features: NDArray[np.float64]

    def cell(self, fsu: int | None, condition: int) -> "Set":
        """The rows of one level (None: all) and condition, the first sample of each donor."""
        chosen = (self.cases.condition == condition) & (self.cases.sample == 0)
        if fsu is not None:
            chosen &= self.cases.fsu == fsu
        return Set(self.cases.where(chosen), self.features[chosen])


@dataclass(frozen=True)
class Row:
    """One method in one cell; `few` where the FID rests on too few images to be believed."""

    fsu: str
    condition: str
    method: str
    n: int
    fid: float
    kid: Interval
    ms_ssim: float
    few: bool

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def comparison(methods: Mapping[str, Set], real: Set, other: Set) -> list[Row]:
    """Every method's rows against the reference set `real`, with `other`, a second one, as the floor.

    In each cell all sets are cut to the smallest one's N, since a FID falls with N whatever the sets.
    """
    rows = []
    for fsu in (*range(len(LEVELS)), None):
        for condition in range(len(CONDITIONS)):
            target = real.cell(fsu, condition)
            named = {FLOOR: other.cell(fsu, condition), **{name: s.cell(fsu, condition) for name, s in methods.items()}}
            n = min(len(s.cases) for s in (target, *named.values()))
            if n < 2:
                continue
            level = ALL if fsu is None else LEVELS[fsu].value
            rows += [_row(level, condition, name, found, target, n) for name, found in named.items()]
    return rows


def _row(level: str, condition: int, name: str, found: Set, target: Set, n: int) -> Row:
    rng = np.random.default_rng(0)
    chosen, against = (np.sort(rng.permutation(len(s.cases))[:n]) for s in (found, target))
    features, wanted = found.features[chosen], target.features[against]
    flat = [x.reshape(-1, x.shape[-1]) for x in (features, wanted)]
    return Row(
        fsu=level,
        condition=condition_name(condition),
        method=name,
        n=n,
        fid=frechet_distance(flat[0], flat[1]),
        kid=kernel_distance(features, wanted),
        ms_ssim=diversity(found.cases.patch[chosen].astype(np.float32)),
        few=len(flat[0]) < FEW,
    )


def wins(rows: list[Row], method: str, rivals: list[str]) -> dict[str, dict[str, int]]:
    """In how many cells (all levels together left out) `method` is under each rival, by FID and by KID."""
    cells: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        if row.fsu != ALL:
            cells.setdefault((row.fsu, row.condition), {})[row.method] = row
    counts = {}
    for rival in rivals:
        both = [(cell[method], cell[rival]) for cell in cells.values() if method in cell and rival in cell]
        counts[rival] = {
            "cells": len(both),
            "fid": sum(own.fid < other.fid for own, other in both),
            "kid": sum(own.kid.value < other.kid.value for own, other in both),
        }
    return counts
