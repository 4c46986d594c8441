"""Every series of a folder × levels × pathologies through the command line, checked from outside.

`python -m bench.matrix FOLDER [--steps 50]`: FOLDER holds one folder of DICOM files a series and, where the discs are
known, `disc_centres.json` ({series: {"disc_centres_lps_mm": {fsu: [x, y, z]}}}). Of every output it tells the exit status,
whether stored values outside the edit's SEG are equal by plain pydicom, dciodvfy's words, the geometry by SimpleITK,
and for one output a series whether a repeat is the same, byte for byte. Nothing of the pipeline's own code is used.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk

LEVELS = ("L2-L3", "L3-L4", "L4-L5")
ASKED = (("disc_herniation", "moderate_large"), ("central_canal_stenosis", "severe"))


def run(arguments: list[str]) -> int:
    command = [sys.executable, "-m", "spinepaint.app.cli", *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode


def by_position(folder: Path) -> list[pydicom.Dataset]:
    return sorted((pydicom.dcmread(p) for p in folder.glob("*.dcm")), key=lambda d: list(map(float, d.ImagePositionPatient)))


def outside_identical(source: Path, sample: Path) -> bool:
    label = pydicom.dcmread(sample / "labels" / "edit.dcm")
    frames = label.pixel_array.reshape(-1, label.Rows, label.Columns)
    items = label.PerFrameFunctionalGroupsSequence
    edited = {tuple(i.PlanePositionSequence[0].ImagePositionPatient): f for i, f in zip(items, frames, strict=True)}
    for before, after in zip(by_position(source), by_position(sample / "series"), strict=True):
        moved = before.pixel_array != after.pixel_array
        frame = edited.get(tuple(after.ImagePositionPatient))
        if moved[frame == 0 if frame is not None else np.ones_like(moved)].any():
            return False
    return True


def geometry(folder: Path) -> tuple[object, ...]:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()


def complaints(folder: Path, known: set[str]) -> set[str]:
    words = set()
    for path in folder.glob("*.dcm"):
        out = subprocess.run(
            [str(Path(sys.executable).parent / "dciodvfy"), str(path)], capture_output=True, text=True, check=False
        )
        words |= {line for line in (out.stdout + out.stderr).splitlines() if re.match("Error|Warning", line)}
    return words - known


def centres(series: Path, truth: dict[str, list[float]]) -> tuple[list[float], bool]:
    command = [sys.executable, "-m", "spinepaint.app.cli", "localise", str(series), "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["disc_centres_lps_mm"]
    errors = [float(np.linalg.norm(np.subtract(found[f], c))) if f in found else np.inf for f, c in truth.items()]
    return errors, all(error < 15 for error in errors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--keep", type=Path, help="keep the outputs here, to look at their previews")
    arguments = parser.parse_args()
    truth_file = arguments.folder / "disc_centres.json"
    truth = json.loads(truth_file.read_text()) if truth_file.exists() else {}
    all_errors, named = [], []
    with tempfile.TemporaryDirectory() as scratch:
        keep = arguments.keep or Path(scratch)
        for series in sorted(path for path in arguments.folder.iterdir() if path.is_dir()):
            if series.name in truth:
                errors, right = centres(series, truth[series.name]["disc_centres_lps_mm"])
                all_errors += [error for error in errors if error < 15]
                named.append(right)
                print(f"{series.name} discs mm {np.round(errors, 1).tolist()} levels {'right' if right else 'WRONG'}", flush=True)
            known = complaints(series, set())
            for level in LEVELS:
                for pathology, severity in ASKED:
                    check(series, level, pathology, severity, arguments.steps, keep, known)
    if named:
        print(
            f"levels right in {sum(named)} of {len(named)} series; mean error {np.mean(all_errors):.2f} mm (n {len(all_errors)})"
        )


def check(series: Path, level: str, pathology: str, severity: str, steps: int, keep: Path, known: set[str]) -> None:
    asked = ["--fsu", level, "--pathology", pathology, "--severity", severity, "--steps", str(steps)]
    out = keep / f"{series.name}-{level}-{pathology}"
    status = run(["inpaint", str(series), *asked, "--out", str(out)])
    sample = out / "sample-01"
    words = [f"{series.name} {level} {pathology} {severity}: exit {status}"]
    if status == 0:
        report = json.loads((sample / "report.json").read_text())
        words.append(f"outside identical {report['edit']['outside_identical']}/{outside_identical(series, sample)}")
        words.append(f"geometry {geometry(series) == geometry(sample / 'series')}")
        words.append(f"dciodvfy {sorted(complaints(sample / 'series', known)) or 'clean'}")
        quality = report["quality"]
        words.append(f"verified {quality['verified']} noise {quality['noise_ratio']} seam {quality['seam_ratio']}")
        if level == LEVELS[0]:
            again = keep / f"{out.name}-again"
            run(["inpaint", str(series), *asked, "--out", str(again)])
            pairs = [(p, again / "sample-01" / "series" / p.name) for p in (sample / "series").glob("*.dcm")]
            words.append(f"repeat identical {all(a.read_bytes() == b.read_bytes() for a, b in pairs)}")
    print(", ".join(words), flush=True)


if __name__ == "__main__":
    main()
