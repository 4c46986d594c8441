"""A sample, drawn at one landmark until it shows what was asked."""

from dataclasses import dataclass
from functools import partial

from spinepaint.imaging.crop import Crop, Vector
from spinepaint.imaging.volume import Volume
from spinepaint.models.bundle import Bundle
from spinepaint.worker import steps
from spinepaint.worker.anatomy import Discs
from spinepaint.worker.best import Attempt, Best
from spinepaint.worker.device import Sampler
from spinepaint.worker.spec import Spec
from spinepaint.worker.stages import Stages


@dataclass(frozen=True)
class Drawn:
    """Where a sample was painted (patient LPS mm, and the crop about it), and its attempts."""

    landmark: Vector
    crop: Crop
    best: Best


def draw(models: Bundle, volume: Volume, discs: Discs, spec: Spec, stages: Stages, sample: Sampler) -> Drawn:
    """Paint at one landmark until the result shows what was asked, so many times at most.

    Raises Refusal where there is no such landmark.
    """
    landmark = stages.run("landmark", lambda: steps.choose_landmark(volume, discs, spec))
    crop = stages.run("crop", lambda: steps.cut_crop(models, volume, landmark))
    painter = steps.encoding_once(models)
    best = Best(spec)
    while best.another_is_worth_it:
        stages.begin_attempt(best.next, spec.attempts)
        attempt = spec.for_attempt(best.next)
        degree = steps.degree_of(models, attempt, best.correction)
        paint = partial(steps.paint, painter, crop, landmark, attempt, degree, stages.within_sampling, sample)
        painted = stages.run("sample", paint)
        pasted = stages.run("paste", partial(steps.paste, models, volume, crop, painted, landmark))
        quality = stages.run("verify", partial(steps.verify, models, volume, pasted, discs, landmark, spec))
        best.see(Attempt(best.next, attempt.seed, degree, painted, pasted, quality))
    return Drawn(landmark, crop, best)
