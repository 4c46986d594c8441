"""What the edits do on held-out phantoms: `python -m bench.effects --phantoms 20`.

Each phantom gets all four conditions at one level, through the pipeline's own steps (localiser included) at the bundle's
defaults. Changes against the untouched series are measured by the phantom's `measure_intensity`, which shares no code with
the pipeline's verification. Also compares the two ways of pasting back on the same decoded crops.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinepaint.imaging.blending import noise_ratio, seam_ratio
from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.paste import paste_blend
from spinepaint.imaging.vocabulary import CONDITIONS, Fsu, Pathology
from spinepaint.models.bundle import Bundle
from spinepaint.training.crops import phantom_volume
from spinepaint.training.phantom import make_phantom, measure_intensity
from spinepaint.worker import steps
from spinepaint.worker.bundles import loaded_bundle
from spinepaint.worker.spec import resolve

FIRST_SEED = 900_000  # far from every training seed


@dataclass(frozen=True)
class Row:
    """One edit: its condition, the changes in mm, and noise and seam of the two ways of pasting."""

    condition: int
    canal_change_mm: float
    protrusion_change_mm: float
    noise: float
    seam: float
    blend_noise: float
    blend_seam: float


def paint_all(models: Bundle, seed: int) -> list[Row]:
    """All four conditions at one level of one phantom; empty where the localiser does not find the level."""
    phantom = make_phantom(seed)
    volume = phantom_volume(phantom)
    level = list(Fsu)[seed % 5]
    discs = steps.localise_discs(models, volume)
    rows = []
    for condition, (pathology, severity) in enumerate(CONDITIONS):
        asked = {"pathology": pathology.value, "severity": severity.value, "fsu": level.value, "seed": seed}
        spec = resolve(asked, models.config.sampling)
        try:
            landmark = steps.choose_landmark(volume, discs, spec)
        except Refusal:
            return []
        crop = steps.cut_crop(models, volume, landmark)
        painted = steps.paint(models, crop, landmark, spec, steps.degree_of(models, spec), lambda _share: None)
        pasted = steps.paste(models, volume, crop, painted, landmark)
        edit = painted.intensity.restore(painted.decoded.edit.numpy())
        blended = paste_blend(volume, crop, edit, pasted.mask)
        before, after = (
            measure_intensity(voxels, volume.affine, phantom.disc_centres_lps_mm[level], landmark)
            for voxels in (volume.voxels, pasted.voxels)
        )
        rows.append(
            Row(
                condition,
                after.canal_ap_mm - before.canal_ap_mm,
                after.protrusion_mm - before.protrusion_mm,
                noise_ratio(volume.voxels, pasted.voxels, pasted.mask),
                seam_ratio(volume.voxels, pasted.voxels, pasted.mask),
                noise_ratio(volume.voxels, blended.voxels, pasted.mask),
                seam_ratio(volume.voxels, blended.voxels, pasted.mask),
            )
        )
    return rows


def summary(values: list[float]) -> str:
    """Mean with a bootstrapped 95 % interval, the paired effect size d = mean / sd, the share below or above 0, and n."""
    x = np.array([v for v in values if np.isfinite(v)])
    rng = np.random.default_rng(0)
    means = rng.choice(x, (2000, len(x))).mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    sign = np.mean(np.sign(x) == np.sign(x.mean()))
    return f"{x.mean():+6.2f} [{low:+.2f}, {high:+.2f}]  d {x.mean() / x.std(ddof=1):+5.2f}  same sign {sign:4.0%}  n {len(x)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phantoms", type=int, default=20)
    parser.add_argument("--bundle", type=Path, help="another bundle than the shipped one")
    arguments = parser.parse_args()
    models = loaded_bundle(arguments.bundle)
    painted = [paint_all(models, FIRST_SEED + n) for n in range(arguments.phantoms)]
    found = [rows for rows in painted if rows]
    print(f"bundle {models.config.name} {models.sha256[:12]}: {len(found)} of {len(painted)} phantoms had the level found")
    for condition, (pathology, severity) in enumerate(CONDITIONS):
        rows = [phantom[condition] for phantom in found]
        print(f"{pathology.value} {severity.value}")
        print("  canal mm      ", summary([row.canal_change_mm for row in rows]))
        print("  protrusion mm ", summary([row.protrusion_change_mm for row in rows]))
    for pathology, measure in ((Pathology.DISC_HERNIATION, "protrusion"), (Pathology.CENTRAL_CANAL_STENOSIS, "canal")):
        less, more = (i for i, (kind, _) in enumerate(CONDITIONS) if kind is pathology)
        name = f"{measure}_change_mm"
        print(f"{pathology.value}: {measure} of the higher minus the lower severity, same phantom")
        print("                ", summary([getattr(rows[more], name) - getattr(rows[less], name) for rows in found]))
    every = [row for rows in found for row in rows]
    for way, noise, seam in (("difference", "noise", "seam"), ("blend", "blend_noise", "blend_seam")):
        medians = [float(np.median([getattr(row, name) for row in every])) for name in (noise, seam)]
        print(f"paste by {way}: noise ratio {medians[0]:.3f}, seam ratio {medians[1]:.3f} (medians, n {len(every)})")


if __name__ == "__main__":
    main()
