"""A small, valid Enhanced MR multi-frame image of the same invented patient and anatomy as `series_factory`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

from tests.imaging.series_encoding import write_dataset
from tests.imaging.series_factory import decimal, make_datasets

_FROM_CLASSIC = (
    "SpecificCharacterSet", "StudyDate", "SeriesDate", "ContentDate", "StudyTime", "SeriesTime", "ContentTime",
    "AccessionNumber", "Modality", "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions",
    "InstitutionName", "ReferringPhysicianName", "StudyDescription", "SeriesDescription", "PatientName", "PatientID",
    "PatientBirthDate", "PatientSex", "PatientAge", "PatientWeight", "MagneticFieldStrength", "PatientPosition",
    "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "StudyID", "SeriesNumber", "FrameOfReferenceUID",
    "PositionReferenceIndicator", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation",
)  # fmt: skip
_MR_IMAGE: dict[str, object] = {
    "ImageType": ["ORIGINAL", "PRIMARY", "T2", "NONE"],
    "PixelPresentation": "MONOCHROME", "VolumetricProperties": "VOLUME", "VolumeBasedCalculationTechnique": "NONE",
    "ComplexImageComponent": "MAGNITUDE", "AcquisitionContrast": "T2",
    "ContentQualification": "PRODUCT", "ResonantNucleus": "1H", "KSpaceFiltering": "NONE",
    "ApplicableSafetyStandardAgency": "IEC", "BurnedInAnnotation": "NO", "LossyImageCompression": "00",
    "PresentationLUTShape": "IDENTITY", "InstanceNumber": 1, "AcquisitionNumber": 1, "AcquisitionDuration": 180.0,
    "AcquisitionDateTime": "20200102101314", "PulseSequenceName": "tse2d", "MRAcquisitionType": "2D",
    "EchoPulseSequence": "SPIN", "MultipleSpinEcho": "YES", "MultiPlanarExcitation": "NO", "PhaseContrast": "NO",
    "TimeOfFlightContrast": "NO", "SteadyStatePulseSequence": "NONE", "EchoPlanarPulseSequence": "NO",
    "SpectrallySelectedSuppression": "NONE", "SaturationRecovery": "NO", "OversamplingPhase": "NONE",
    "GeometryOfKSpaceTraversal": "RECTILINEAR", "RectilinearPhaseEncodeReordering": "LINEAR",
    "SegmentedKSpaceTraversal": "PARTIAL", "NumberOfKSpaceTrajectories": 1,
}  # fmt: skip


def make_enhanced(
    path: Path,
    *,
    slices: int = 9,
    rows: int = 96,
    columns: int = 96,
    spacing_mm: tuple[float, float, float] = (4.4, 0.9, 0.9),
    oblique_deg: float = 0.0,
    dtype: str = "uint16",
    bits_stored: int = 12,
    signed: bool = False,
    slope: float | Sequence[float] = 1.0,
    intercept: float | Sequence[float] = 0.0,
    frame_order: Sequence[int] | None = None,
    echo_times_ms: Sequence[float] = (102.0,),
    repetition_time_ms: float = 3500.0,
    transfer_syntax: str = ExplicitVRLittleEndian,
    seed: int = 0,
    mutate: Callable[[Dataset], object] | None = None,
) -> Path:
    """Write one Enhanced MR image as `path`.

    `frame_order` gives, frame by frame, the slice it holds, counted along the normal; the whole stack is repeated for each of
    `echo_times_ms`. `mutate(dataset)` may spoil it before it is written. The other arguments are those of `make_datasets`.
    """
    classic = make_datasets(
        slices=slices, rows=rows, columns=columns, spacing_mm=spacing_mm, oblique_deg=oblique_deg,
        dtype=dtype, bits_stored=bits_stored, signed=signed, seed=seed,
    )  # fmt: skip
    slopes, intercepts = (np.broadcast_to(np.asarray(v, float), slices) for v in (slope, intercept))
    order = [*(frame_order or range(slices))]
    ds = FileDataset("", {}, preamble=b"\0" * 128, file_meta=classic[0].file_meta)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = EnhancedMRImageStorage
    for keyword in _FROM_CLASSIC:
        ds[keyword] = classic[0][keyword]
    for keyword, value in _MR_IMAGE.items():
        setattr(ds, keyword, value)
    ds.NumberOfFrames = len(order) * len(echo_times_ms)
    ds.AcquisitionContextSequence = []
    _describe_dimensions(ds)
    ds.SharedFunctionalGroupsSequence = [_shared_groups(classic[0], repetition_time_ms)]
    ds.PerFrameFunctionalGroupsSequence = [
        _frame_groups(classic[k], k + 1, echo + 1, echo_time, float(slopes[k]), float(intercepts[k]))
        for echo, echo_time in enumerate(echo_times_ms)
        for k in order
    ]
    ds.add_new("PixelData", "OW", b"".join(classic[k].PixelData for _ in echo_times_ms for k in order))
    if mutate is not None:
        mutate(ds)
    return write_dataset(ds, path, transfer_syntax)


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _describe_dimensions(ds: Dataset) -> None:
    uid = generate_uid(entropy_srcs=[ds.SOPInstanceUID])
    ds.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=uid)]
    ds.DimensionIndexSequence = [
        _item(DimensionOrganizationUID=uid, DimensionIndexPointer=0x00209057, FunctionalGroupPointer=0x00209111),
        _item(DimensionOrganizationUID=uid, DimensionIndexPointer=0x00189082, FunctionalGroupPointer=0x00189114),
    ]


def _shared_groups(classic: Dataset, repetition_time_ms: float) -> Dataset:
    """What all frames have in common (PS3.3 A.36.2.4)."""
    code = _item(CodeValue="122496007", CodingSchemeDesignator="SCT", CodeMeaning="Lumbar spine")
    return _item(
        PixelMeasuresSequence=[
            _item(
                PixelSpacing=classic.PixelSpacing,
                SliceThickness=classic.SliceThickness,
                SpacingBetweenSlices=classic.SpacingBetweenSlices,
            )
        ],
        PlaneOrientationSequence=[_item(ImageOrientationPatient=classic.ImageOrientationPatient)],
        FrameAnatomySequence=[_item(FrameLaterality="U", AnatomicRegionSequence=[code])],
        FrameVOILUTSequence=[_item(WindowCenter="2000", WindowWidth="4000")],
        MRImageFrameTypeSequence=[
            _item(
                FrameType=["ORIGINAL", "PRIMARY", "T2", "NONE"], PixelPresentation="MONOCHROME", VolumetricProperties="VOLUME",
                VolumeBasedCalculationTechnique="NONE", ComplexImageComponent="MAGNITUDE", AcquisitionContrast="T2",
            )
        ],
        MRTimingAndRelatedParametersSequence=[
            _item(
                RepetitionTime=decimal(repetition_time_ms), FlipAngle="150", EchoTrainLength=17, RFEchoTrainLength=17,
                GradientEchoTrainLength=0, GradientOutputType="DB_DT", GradientOutput=10.0,
                SpecificAbsorptionRateSequence=[
                    _item(SpecificAbsorptionRateDefinition="IEC_WHOLE_BODY", SpecificAbsorptionRateValue=1.0)
                ],
                OperatingModeSequence=[
                    _item(OperatingModeType=kind, OperatingMode="IEC_NORMAL")
                    for kind in ("STATIC FIELD", "RF", "GRADIENT")
                ],
            )
        ],
        MRFOVGeometrySequence=[
            _item(
                InPlanePhaseEncodingDirection="COLUMN", MRAcquisitionFrequencyEncodingSteps=classic.Columns,
                MRAcquisitionPhaseEncodingStepsInPlane=classic.Rows, MRAcquisitionPhaseEncodingStepsOutOfPlane=1,
                PercentSampling="100", PercentPhaseFieldOfView="100",
            )
        ],
        MRModifierSequence=[
            _item(
                InversionRecovery="NO", FlowCompensation="NONE", Spoiling="NONE", T2Preparation="NO",
                SpectrallySelectedExcitation="NONE", SpatialPresaturation="NONE", PartialFourier="NO",
                ParallelAcquisition="NO",
            )
        ],
        MRImagingModifierSequence=[
            _item(
                MagnetizationTransfer="NONE", BloodSignalNulling="NO", Tagging="NONE", TransmitterFrequency=63.6,
                PixelBandwidth="190",
            )
        ],
        MRReceiveCoilSequence=[
            _item(ReceiveCoilName="SPINE", ReceiveCoilManufacturerName="", ReceiveCoilType="SURFACE", QuadratureReceiveCoil="YES")
        ],
        MRTransmitCoilSequence=[_item(TransmitCoilName="BODY", TransmitCoilManufacturerName="", TransmitCoilType="BODY")],
        MRAveragesSequence=[_item(NumberOfAverages="1")],
    )  # fmt: skip


def _frame_groups(
    classic: Dataset, slice_index: int, echo_index: int, echo_time_ms: float, slope: float, intercept: float
) -> Dataset:
    """What one frame has of its own."""
    return _item(
        FrameContentSequence=[
            _item(
                StackID="1", InStackPositionNumber=slice_index, DimensionIndexValues=[slice_index, echo_index],
                FrameAcquisitionNumber=1, FrameReferenceDateTime="20200102101314",
                FrameAcquisitionDateTime="20200102101314", FrameAcquisitionDuration=180000.0,
            )
        ],
        PlanePositionSequence=[_item(ImagePositionPatient=classic.ImagePositionPatient)],
        MREchoSequence=[_item(EffectiveEchoTime=echo_time_ms)],
        PixelValueTransformationSequence=[
            _item(RescaleSlope=decimal(slope), RescaleIntercept=decimal(intercept), RescaleType="US")
        ],
    )  # fmt: skip
