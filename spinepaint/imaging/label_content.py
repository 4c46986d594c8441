"""What the labels say, as coded content: the algorithm, and the TID 1500 report of a synthetic finding."""

from collections.abc import Mapping, Sequence

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes

from spinepaint.imaging import provenance as marks
from spinepaint.imaging.derived import DerivedSeries
from spinepaint.imaging.provenance import Provenance
from spinepaint.imaging.uids import uid_from
from spinepaint.imaging.vocabulary import FSU_CODES, PATHOLOGY_CODES, SEVERITY_CODES, Code


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


def measurement_code(name: str) -> Code:
    """Private code of a measurement: its name, and in words the name without underscores."""
    return Code(name, marks.PRIVATE_SCHEME, marks.printable(name.replace("_", " "), 64))


def report_content(
    images: Sequence[Dataset], derived: DerivedSeries, provenance: Provenance, measurements: Mapping[str, float]
) -> hd.sr.MeasurementReport:
    """The content tree (PS3.16 TID 1500): one measurement group about the landmark, a point in patient LPS mm."""
    algorithm = hd.sr.AlgorithmIdentification(
        name=marks.printable(f"Spinepaint {provenance.bundle_name}", 64),
        version=marks.printable(provenance.version, 64),
        parameters=[f"bundle_sha256={provenance.bundle_sha256}"],
    )
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=provenance.uid("tracking", derived.series_uid), identifier=marks.printable(provenance.finding(), 64)
        ),
        referenced_region=hd.sr.ImageRegion3D(
            graphic_type=hd.sr.GraphicTypeValues3D.POINT,
            graphic_data=np.array([provenance.landmark_lps_mm], float),
            frame_of_reference_uid=derived.datasets[0].FrameOfReferenceUID,
        ),
        finding_type=concept(PATHOLOGY_CODES[provenance.pathology]),
        algorithm_id=algorithm,
        finding_sites=[hd.sr.FindingSite(concept(FSU_CODES[provenance.fsu]))],
        measurements=[
            hd.sr.Measurement(name=concept(measurement_code(name)), value=float(value), unit=codes.UCUM.Millimeter)
            for name, value in measurements.items()
        ],
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(name=codes.SCT.Severity, value=concept(SEVERITY_CODES[provenance.severity]))
        ],
    )
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
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=images if _describable(images) else None,
    )


def _describable(images: Sequence[Dataset]) -> bool:
    """Whether the image library can describe them: it takes single frames whose slice thickness is known.

    Without it the series is still named as evidence, and the landmark by its frame of reference.
    """
    return all("NumberOfFrames" not in image and image.get("SliceThickness") for image in images)
