"""What was asked for, checked and with every default filled in."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.vocabulary import SEVERITIES, Fsu, Pathology, Severity
from spinepaint.models.bundle import SamplingConfig
from spinepaint.models.inpaint import METHODS, Method
from spinepaint.models.samplers import SAMPLERS

E = TypeVar("E", Pathology, Fsu, Severity)
MAX_ATTEMPTS = 16


@dataclass(frozen=True)
class Spec:
    """A resolved request; `sample` counts from 1 and `seed` is already that sample's own.

    attempts: how often a sample is drawn at most until it shows what was asked. require_verified: one that never does is an
    error.
    """

    pathology: Pathology
    fsu: Fsu
    severity: Severity
    seed: int
    samples: int
    method: Method
    solver: str
    steps: int
    sigma_mm: float
    landmark_lps_mm: tuple[float, float, float] | None = None
    series_uid: str | None = None
    deidentify: bool = False
    new_study: bool = False
    allow_synthetic: bool = False
    attempts: int = 3
    require_verified: bool = False
    sample: int = 1

    def for_sample(self, sample: int) -> "Spec":
        """The same request for the n-th sample: the first has the caller's seed, the others one derived from it."""
        if sample == 1:
            return self
        digest = hashlib.sha256(f"spinepaint sample {self.seed} {sample}".encode()).digest()
        return replace(self, sample=sample, seed=int.from_bytes(digest[:4], "big"))

    def for_attempt(self, attempt: int) -> "Spec":
        """The same sample drawn anew: the first attempt has the sample's own seed, the others one derived from it."""
        if attempt == 1:
            return self
        digest = hashlib.sha256(f"spinepaint attempt {self.seed} {attempt}".encode()).digest()
        return replace(self, seed=int.from_bytes(digest[:4], "big"))

    def as_dict(self) -> dict[str, Any]:
        """The `spec` of report.json."""
        return asdict(self)


def resolve(raw: Mapping[str, Any], defaults: SamplingConfig) -> Spec:
    """Check a request and fill in the bundle's defaults. Raises Refusal `bad-spec`, naming the field."""
    known = set(Spec.__dataclass_fields__) - {"sample"}
    unknown = sorted(set(raw) - known)
    if unknown:
        raise _bad(f"unknown fields: {', '.join(unknown)}")
    given = {name: value for name, value in raw.items() if value is not None}
    pathology = _member(Pathology, given, "pathology")
    severity = _member(Severity, given, "severity")
    if severity not in SEVERITIES[pathology]:
        raise _bad(f"severity {severity.value!r} does not go with {pathology.value}: choose {' or '.join(SEVERITIES[pathology])}")
    landmark = given.get("landmark_lps_mm")
    if landmark is not None and len(landmark) != 3:
        raise _bad("landmark_lps_mm needs three numbers, x, y and z in patient LPS mm")
    method: Method = given.get("method", "weighted")
    solver = str(given.get("solver", defaults.solver))
    if method not in METHODS or solver not in SAMPLERS:
        raise _bad(f"method must be one of {', '.join(METHODS)}, and solver one of {', '.join(SAMPLERS)}")
    spec = Spec(
        pathology=pathology,
        fsu=_member(Fsu, given, "fsu"),
        severity=severity,
        seed=_within(given, "seed", 0, 0, 2**63 - 1),
        samples=_within(given, "samples", 1, 1, 64),
        attempts=_within(given, "attempts", 3, 1, MAX_ATTEMPTS),
        method=method,
        solver=solver,
        steps=_within(given, "steps", defaults.steps, 1, 1000),
        sigma_mm=float(given.get("sigma_mm", defaults.sigma_mm)),
        landmark_lps_mm=None if landmark is None else (float(landmark[0]), float(landmark[1]), float(landmark[2])),
        series_uid=given.get("series_uid"),
        deidentify=_flag(given, "deidentify"),
        new_study=_flag(given, "new_study"),
        allow_synthetic=_flag(given, "allow_synthetic"),
        require_verified=_flag(given, "require_verified"),
    )
    if not 2.0 <= spec.sigma_mm <= 40.0:
        raise _bad("sigma_mm must lie between 2 and 40")
    return spec


def _member(kind: type[E], given: Mapping[str, Any], name: str) -> E:
    try:
        return kind(given.get(name, ""))
    except ValueError:
        raise _bad(f"{name} must be one of: {', '.join(kind)}") from None


def _within(given: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = given.get(name, default)
    if not isinstance(value, int) or not low <= value <= high:
        raise _bad(f"{name} must be a whole number from {low} to {high}")
    return value


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise _bad(f"{name} must be true or false")
    return value


def _bad(detail: str) -> Refusal:
    return Refusal("bad-spec", "The request is not one that can be carried out.", detail)
