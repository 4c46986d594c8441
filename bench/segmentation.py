"""Dice per structure with and without diffusion, over T, on phantoms that were never trained on, with AUCs of the uncertainty
and seconds a volume.

`python -m bench.segmentation MODEL [--phantoms 12] [--steps 10,30,100,1000] [--samples 2] [--json FILE]`, where MODEL is the
folder of a run of `spinepaint train segmenter`, or a bundle that has a segmenter. One phantom in three is T1. Degenerate discs
have a lesion or a Pfirrmann grade of 4 or 5. AUCs: how well the uncertainty tells wrong voxels from right ones, of all voxels
and of those in the spine. Seconds hold for this machine and the threads that torch has.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from spinepaint.training.segmenter_run import read_segmenter
from spinepaint.training.segmenter_scores import Case, compare
from spinepaint.training.segmenter_spines import HELD_OUT_SEED

COLUMNS = ("vertebrae", "discs", "canal", "mean", "healthy_discs", "degenerate_discs", "uncertainty_auc", "spine_auc", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--phantoms", type=int, default=12)
    parser.add_argument("--steps", default="10,30,100,1000")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    models = read_segmenter(asked.model)
    if asked.samples:
        how = replace(models.config.ensemble, samples=asked.samples)
        models = replace(models, config=replace(models.config, ensemble=how))
    # Not those that validations look at.
    cases = [Case(HELD_OUT_SEED + 1000 + k, "T1" if k % 3 == 2 else "T2") for k in range(asked.phantoms)]
    table = compare(models, cases, [int(t) for t in asked.steps.split(",")])
    print(f"{'':<18}" + "".join(f"{name:>18}" for name in COLUMNS))
    for name, figures in table.items():
        print(f"{name:<18}" + "".join(f"{figures[column]:>18.3f}" if column in figures else " " * 18 for column in COLUMNS))
    if asked.json:
        asked.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
