"""Drawing a sample several times, and keeping the attempt that shows best what was asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spinepaint.imaging.errors import NotVerified
from spinepaint.imaging.paste import Pasted
from spinepaint.imaging.severity import middle_of
from spinepaint.worker.spec import Spec
from spinepaint.worker.steps import Painted
from spinepaint.worker.verify import Quality

# How much of what an attempt lacked (or had too much) the next one asks in addition. Part of it is chance, which does not return.
_SHARE_CORRECTED = 0.5


@dataclass(frozen=True)
class Attempt:
    """One draw: its number from 1, its seed, the degree that was asked of the network, what was painted and pasted, and how
    that was judged.
    """

    number: int
    seed: int
    degree_asked: float | None
    painted: Painted
    pasted: Pasted
    quality: Quality

    def told(self) -> dict[str, Any]:
        """Its entry in the report."""
        quality = self.quality
        return {
            "attempt": self.number,
            "seed": self.seed,
            "degree_asked": None if self.degree_asked is None else round(self.degree_asked, 3),
            "after": None if quality.after is None else quality.after.as_dict(),
            "degree": None if quality.degree is None else round(quality.degree, 3),
            "found": quality.found,
            "verified": quality.verified,
        }


@dataclass
class Best:
    """The best attempt so far, and what is told of each; only the best one's voxels are held.

    correction: what the next attempt asks beyond what its seed would, in degrees: a series in which a lesion came out too slight
    once asks for more of it.
    """

    spec: Spec
    kept: Attempt | None = None
    tries: list[Mapping[str, Any]] = field(default_factory=list)
    correction: float = 0.0

    @property
    def next(self) -> int:
        """The number of the next attempt."""
        return len(self.tries) + 1

    @property
    def another_is_worth_it(self) -> bool:
        """Until one shows what was asked, all have been made, or there is a level that nothing can be told of."""
        done = self.kept is not None and (self.kept.quality.verified or not self.kept.quality.measurable)
        return not done and len(self.tries) < self.spec.attempts

    def see(self, attempt: Attempt) -> None:
        """Keep a verified attempt, else the one nearest to the middle of what was asked, the earlier one of equals."""
        self.tries.append(attempt.told())
        if attempt.quality.degree is not None:
            missing = middle_of(self.spec.pathology, self.spec.severity) - attempt.quality.degree
            self.correction += _SHARE_CORRECTED * missing
        if self.kept is None or _rank(attempt) < _rank(self.kept):
            self.kept = attempt

    def required(self) -> Attempt:
        """The attempt that is kept. Raises NotVerified where the caller wants it to show what was asked and it does not."""
        kept = self.kept
        if kept is None:
            raise ValueError("no attempt was made")
        if self.spec.require_verified and not kept.quality.verified:
            asked = f"{self.spec.fsu.value} {self.spec.pathology.value}, {self.spec.severity.value}".replace("_", " ")
            seen = f"none of {len(self.tries)} shows it" if kept.quality.measurable else "the level could not be measured"
            raise NotVerified(
                "not-verified",
                "The result does not show what was asked.",
                f"{asked}: {seen}. Allow more attempts, take another seed or level, or leave out require_verified.",
                status=500,
            )
        return kept


def _rank(attempt: Attempt) -> tuple[bool, float]:
    return not attempt.quality.verified, attempt.quality.off_middle
