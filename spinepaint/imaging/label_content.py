"""What the labels say, as coded content: the algorithm, and the TID 1500 report of a synthetic finding."""

from collections.abc import Mapping
from typing import Any

import highdicom as hd
import numpy as np
from pydicom.sr.codedict import codes

from spinepaint.imaging import provenance as marks
from spinepaint.imaging.derived import DerivedSeries
from spinepaint.imaging.provenance import Provenance
from spinepaint.imaging.uids import uid_from
from spinepaint.imaging.vocabulary import (
    CERTAINTY,
    FSU_CODES,
    PATHOLOGY_CODES,
    SEVERITY_CODES,
    VERIFIED_CODES,
    VERTEBRAL_CANAL,
    Code,
)

# Name (CID 7469) and site of each measure; None is the disc. `measures.LevelMeasures` defines them.
MEASURES: dict[str, tuple[Code, Code | None]] = {
    "canal_ap": (Code("131197000", "SCT", "Depth"), VERTEBRAL_CANAL),
    "protrusion": (Code("121206", "DCM", "Distance"), None),
}
TIME_POINTS: dict[str, tuple[str, int]] = {"before": ("before the edit", 1), "after": ("after the edit", 2)}


def concept(code: Code) -> hd.sr.CodedConcept:
    """`code` as highdicom has it; a value of more than 16 characters becomes a Long Code Value."""
    return hd.sr.CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def algorithm_items(provenance: Provenance) -> hd.AlgorithmIdentificationSequence:
    """Algorithm Identification Sequence (PS3.3 10.16) of the painter: the weight bundle by name and SHA-256."""
    return hd.AlgorithmIdentificationSequence(
        name=marks.printable(f"Spinepaint {provenance.bundle_name}", 64),
        family=codes.DCM.ArtificialIntelligence,
        version=marks.printable(provenance.version, 64),
        source="Spinepaint",
        parameters={"bundle_sha256": provenance.bundle_sha256},
    )


def by_time_point(measurements: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The measures by time point: {"canal_ap_after": 9.5} becomes {"after": {"canal_ap": 9.5}}.

    Raises ValueError for a name that ends in no time point, or that `MEASURES` does not have.
    """
    split: dict[str, dict[str, float]] = {}
    for name, value in measurements.items():
        measure, _, when = name.rpartition("_")
        if when not in TIME_POINTS or measure not in MEASURES:
            raise ValueError(f"{name!r} is no measurement that has a code")
        split.setdefault(when, {})[measure] = value
    return split


def report_content(
    derived: DerivedSeries,
    provenance: Provenance,
    measurements: Mapping[str, float],
    slice_index: int,
    verified: bool | None = None,
) -> hd.sr.MeasurementReport:
    """The content tree (PS3.16 TID 1500): the finding at the landmark, and what was measured there before and after.

    Each time point (TID 1502) has a group of its own about the same point in patient LPS mm; the finding, its severity, its
    certainty (whether it was `verified`) and its site are in the group of the synthetic series, and its measures name the
    image of slice `slice_index`. There is no image library: the evidence names every image, and a library would repeat their
    headers at the cost of most of the report.
    """
    split = by_time_point(measurements)
    finding = _finding(provenance, verified)
    groups = [_group("after", derived, provenance, split.get("after", {}), _source(derived, slice_index), finding)]
    if "before" in split:
        groups.append(_group("before", derived, provenance, split["before"], None, {}))
    device = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=uid_from("spinepaint", "observer", provenance.version, provenance.bundle_sha256),
            name="Spinepaint",
            manufacturer_name="Spinepaint",
            model_name="Spinepaint",
        ),
    )
    return hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )


def _source(derived: DerivedSeries, slice_index: int) -> hd.sr.SourceImageForMeasurement:
    """The synthetic image, or frame of it, that holds a slice."""
    enhanced = len(derived.datasets) == 1
    image = derived.datasets[0 if enhanced else slice_index]
    frames = [slice_index + 1] if enhanced else None
    return hd.sr.SourceImageForMeasurement(image.SOPClassUID, image.SOPInstanceUID, referenced_frame_numbers=frames)


def _finding(provenance: Provenance, verified: bool | None) -> dict[str, Any]:
    """What was asked for, and whether it was seen."""
    told = [hd.sr.QualitativeEvaluation(name=codes.SCT.Severity, value=concept(SEVERITY_CODES[provenance.severity]))]
    if verified is not None:
        told.append(hd.sr.QualitativeEvaluation(name=concept(CERTAINTY), value=concept(VERIFIED_CODES[verified])))
    return {"finding_type": concept(PATHOLOGY_CODES[provenance.pathology]), "qualitative_evaluations": told}


def _group(
    when: str,
    derived: DerivedSeries,
    provenance: Provenance,
    measures: Mapping[str, float],
    source: hd.sr.SourceImageForMeasurement | None,
    finding: Mapping[str, Any],
) -> Any:
    """Measurement group (TID 1410) of one time point; the same tracking UID says that it is the same place."""
    name, order = TIME_POINTS[when]
    site = hd.sr.FindingSite(concept(FSU_CODES[provenance.fsu]))
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=provenance.uid("tracking", derived.series_uid), identifier=marks.printable(provenance.finding(), 64)
        ),
        referenced_region=hd.sr.ImageRegion3D(
            graphic_type=hd.sr.GraphicTypeValues3D.POINT,
            graphic_data=np.array([provenance.landmark_lps_mm], float),
            frame_of_reference_uid=derived.datasets[0].FrameOfReferenceUID,
        ),
        time_point_context=hd.sr.TimePointContext(name, time_point_order=order),
        algorithm_id=hd.sr.AlgorithmIdentification(
            name=marks.printable(f"Spinepaint {provenance.bundle_name}", 64),
            version=marks.printable(provenance.version, 64),
            parameters=[f"bundle_sha256={provenance.bundle_sha256}"],
        ),
        finding_sites=[site],
        measurements=[_measurement(measure, float(value), site, source) for measure, value in measures.items()],
        **finding,
    )


def _measurement(measure: str, value: float, disc: hd.sr.FindingSite, source: hd.sr.SourceImageForMeasurement | None) -> Any:
    """One length (TID 300) with its own site, which tells it from the other one."""
    name, site = MEASURES[measure]
    return hd.sr.Measurement(
        name=concept(name),
        value=value,
        unit=codes.UCUM.Millimeter,
        finding_sites=[disc if site is None else hd.sr.FindingSite(concept(site))],
        referenced_images=None if source is None else [source],
    )
