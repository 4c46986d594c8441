"""Our own check of what the validators miss in a synthetic series and its labels.

dciodvfy takes any value for Synthetic Data, knows neither context groups nor what a derived image owes its source, and looks
at one file at a time. Each rule here is one of shared practice or of PS3.3, and says in plain words where it is broken.
`python -m spinepaint.imaging.conformance FOLDER` applies it to the files of an output.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom import Dataset, dcmread

from spinepaint.imaging.conformance_codes import code_findings
from spinepaint.imaging.conformance_object import object_findings

_SHARED = ("StudyInstanceUID", "PatientID", "PatientName", "PatientIdentityRemoved", "SyntheticData")
_PREAMBLE = 128


def findings(paths: Sequence[Path], sources: Sequence[Dataset] = ()) -> list[str]:
    """What is wrong with an output; empty where nothing is.

    Parameters
    ----------
    paths: the files of one synthetic series, and of its labels where there are any.
    sources: the data sets it was derived from, as they were before any de-identification; they are not needed for most rules.
    """
    found: list[str] = []
    objects = []
    for path in paths:
        objects.append(dcmread(path, stop_before_pixels=True))
        lines = [*_file_findings(path), *object_findings(objects[-1]), *code_findings(objects[-1])]
        found += [f"{path.name}: {line}" for line in lines]
    found += _findings_between(objects)
    if sources:
        found += _findings_against(objects, sources)
    return found


def _file_findings(path: Path) -> Iterator[str]:
    with path.open("rb") as stream:
        if stream.read(_PREAMBLE) != b"\0" * _PREAMBLE:
            yield "the preamble is not zeroed"


def _findings_between(objects: Sequence[Dataset]) -> Iterator[str]:
    """Rules over the objects together: one patient, one study, one frame of reference, references that are kept."""
    for keyword in _SHARED:
        if len({str(ds.get(keyword)) for ds in objects}) > 1:
            yield f"the objects differ in {keyword}"
    for uid, count in Counter(str(ds.SOPInstanceUID) for ds in objects).items():
        if count > 1:
            yield f"{count} objects have the SOP Instance UID {uid}"
    images = [ds for ds in objects if ds.Modality == "MR"]
    if len({ds.SeriesInstanceUID for ds in images}) > 1 or len({ds.SeriesInstanceUID for ds in objects}) > 1 + len(objects) - len(
        images
    ):
        yield "the series are not told apart by their UIDs"
    if len({ds.FrameOfReferenceUID for ds in objects if "FrameOfReferenceUID" in ds}) > 1:
        yield "the objects are in several frames of reference"
    for keyword in ("InstanceNumber", "ImagePositionPatient"):
        values = [str(ds[keyword].value) for ds in images if keyword in ds]
        if len(set(values)) < len(values):
            yield f"images share their {keyword}"
    yield from _label_findings(objects, images)


def _label_findings(objects: Sequence[Dataset], images: Sequence[Dataset]) -> Iterator[str]:
    """A label names images of the synthetic series, and no others, as what it is about."""
    known = {str(ds.SOPInstanceUID) for ds in images}
    for ds in objects:
        if ds.Modality not in ("SEG", "SR"):
            continue
        named = {str(item.ReferencedSOPInstanceUID) for item in _evidence(ds)}
        if not named or named - known:
            yield f"the {ds.Modality} names other images than those of the series, or none"


def _evidence(label: Dataset) -> Iterator[Dataset]:
    for series in label.get("ReferencedSeriesSequence", []):
        yield from series.ReferencedInstanceSequence
    for study in label.get("CurrentRequestedProcedureEvidenceSequence", []):
        for series in study.ReferencedSeriesSequence:
            yield from series.ReferencedSOPSequence


def _findings_against(objects: Sequence[Dataset], sources: Sequence[Dataset]) -> Iterator[str]:
    """Rules between an output and its source: new UIDs, the same place, and no loss denied."""
    removed, removed_before = (group[0].get("PatientIdentityRemoved") == "YES" for group in (objects, sources))
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        if {str(ds[keyword].value) for ds in objects} & {str(ds[keyword].value) for ds in sources}:
            yield f"an object has the {keyword} of a source"
    frames = {str(ds.get("FrameOfReferenceUID")) for ds in sources if ds.get("FrameOfReferenceUID")}
    kept = {str(ds.FrameOfReferenceUID) for ds in objects if "FrameOfReferenceUID" in ds}
    if frames and removed and not removed_before and kept & frames:
        yield "the frame of reference was not replaced"
    if frames and not removed and kept != frames:
        yield "the frame of reference is not the source's"
    if any(ds.get("LossyImageCompression") == "01" for ds in sources):
        for ds in objects:
            if ds.Modality == "MR" and ds.get("LossyImageCompression") != "01":
                yield "the source was compressed with loss and an image does not say so"


def main() -> None:
    """Print the findings over the DICOM files below a folder; exit status 1 where there are any."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m spinepaint.imaging.conformance FOLDER")
    paths = sorted(Path(sys.argv[1]).rglob("*.dcm"))
    if not paths:
        sys.exit(f"no DICOM files (*.dcm) below {sys.argv[1]}")
    found = findings(paths)
    print("\n".join(found) or "nothing found")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
