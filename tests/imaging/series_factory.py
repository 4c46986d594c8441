"""Small, valid, synthetic sagittal T2 series of an invented patient, to be broken by the tests that need it broken.

The anatomy is a stack of dark vertebrae and bright discs beside a bright canal: enough to look at,
too little to mistake for a person.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import DSfloat

from tests.imaging.series_encoding import write_dataset

Plane = Literal["sagittal", "coronal", "axial"]
Mutation = Callable[[Dataset, int], object]

_AXES: dict[Plane, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "sagittal": ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
    "coronal": ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),
    "axial": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
}


def make_anatomy(shape: tuple[int, int, int], *, seed: int = 0) -> NDArray[np.float64]:
    """Intensities from 0 to 1, (slice, row, column): five vertebrae and discs, and the canal behind them."""
    slices, rows, columns = shape
    s, r, c = np.meshgrid(*(np.linspace(0.0, 1.0, n) for n in shape), indexing="ij")
    middle = np.exp(-(((s - 0.5) / 0.35) ** 2))
    column = 0.5 + 0.05 * np.sin(2 * np.pi * r)
    level = (r * 5.5) % 1.0
    body = (np.abs(c - column + 0.1) < 0.12) * np.where(level < 0.75, 0.35, 0.65)
    canal = np.exp(-(((c - column - 0.12) / 0.05) ** 2)) * 0.9
    noise = np.random.default_rng(seed).normal(0.0, 0.02, (slices, rows, columns))
    anatomy: NDArray[np.float64] = np.clip(0.1 + middle * np.maximum(body, canal) + noise, 0.0, 1.0)
    return anatomy


def quantise(anatomy: NDArray[np.float64], *, dtype: str, bits_stored: int, signed: bool) -> NDArray[np.integer]:
    """Stored values of `anatomy` that use the whole range of `bits_stored` bits; signed ones lie about zero."""
    width = np.dtype(dtype).itemsize
    stored = np.round(anatomy * (2**bits_stored - 1)).astype(np.int64) - (2 ** (bits_stored - 1) if signed else 0)
    integers: NDArray[np.integer] = stored.astype(f"<{'i' if signed else 'u'}{width}")
    return integers


def oriented_axes(plane: Plane, oblique_deg: float) -> NDArray[np.float64]:
    """Unit vectors along a row, along a column and along the normal, as the rows of a 3x3 array, in LPS.

    `oblique_deg` turns a sagittal or coronal plane about the patient's long axis, an axial one about the x axis.
    """
    a = np.deg2rad(oblique_deg)
    about_z = np.array([[np.cos(a), -np.sin(a), 0.0], [np.sin(a), np.cos(a), 0.0], [0.0, 0.0, 1.0]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(a), -np.sin(a)], [0.0, np.sin(a), np.cos(a)]])
    turn = about_x if plane == "axial" else about_z
    row, column = (turn @ np.array(axis) for axis in _AXES[plane])
    return np.stack([row, column, np.cross(row, column)])


def make_datasets(
    *,
    slices: int = 9,
    rows: int = 96,
    columns: int = 96,
    spacing_mm: tuple[float, float, float] = (4.4, 0.9, 0.9),
    oblique_deg: float = 0.0,
    plane: Plane = "sagittal",
    dtype: str = "uint16",
    bits_stored: int = 12,
    signed: bool = False,
    slope: float | Sequence[float] = 1.0,
    intercept: float | Sequence[float] = 0.0,
    series_description: str = "t2_tse_sag",
    echo_time_ms: float = 102.0,
    repetition_time_ms: float = 3500.0,
    seed: int = 0,
) -> list[FileDataset]:
    """The data sets of one classic MR series, uncompressed, in the order of increasing position along the normal.

    `spacing_mm` is between (slices, rows, columns). Instance Number runs against the position, as many
    scanners number. Series of different `seed` share the study and the frame of reference.
    Rescale Slope and Intercept, which the MR Image IOD does not define, are there only where asked for.
    """
    signed = signed or np.dtype(dtype).kind == "i"
    stored = quantise(make_anatomy((slices, rows, columns), seed=seed), dtype=dtype, bits_stored=bits_stored, signed=signed)
    axes = oriented_axes(plane, oblique_deg)
    steps = np.array([columns - 1, rows - 1, slices - 1]) * np.array([spacing_mm[2], spacing_mm[1], spacing_mm[0]])
    corner = -0.5 * steps @ axes
    slopes = np.broadcast_to(np.asarray(slope, float), slices)
    intercepts = np.broadcast_to(np.asarray(intercept, float), slices)
    datasets = []
    for k in range(slices):
        ds = _header(seed, k)
        ds.SeriesDescription = series_description
        ds.EchoTime, ds.RepetitionTime = decimal(echo_time_ms), decimal(repetition_time_ms)
        ds.InstanceNumber = slices - k
        ds.Rows, ds.Columns = rows, columns
        ds.PixelSpacing = [decimal(spacing_mm[1]), decimal(spacing_mm[2])]
        ds.SliceThickness, ds.SpacingBetweenSlices = decimal(spacing_mm[0] * 0.9), decimal(spacing_mm[0])
        ds.ImageOrientationPatient = [decimal(v) for v in axes[:2].ravel()]
        ds.ImagePositionPatient = [decimal(v) for v in corner + k * spacing_mm[0] * axes[2]]
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = stored.dtype.itemsize * 8, bits_stored, bits_stored - 1
        ds.PixelRepresentation = int(signed)
        if (slopes[k], intercepts[k]) != (1.0, 0.0):
            ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = decimal(slopes[k]), decimal(intercepts[k]), "US"
        pixels = stored[k].tobytes()
        ds.add_new("PixelData", "OW", pixels + b"\0" * (len(pixels) % 2))
        datasets.append(ds)
    return datasets


def make_series(
    folder: Path,
    *,
    slices: int = 9,
    rows: int = 96,
    columns: int = 96,
    spacing_mm: tuple[float, float, float] = (4.4, 0.9, 0.9),
    oblique_deg: float = 0.0,
    plane: Plane = "sagittal",
    dtype: str = "uint16",
    bits_stored: int = 12,
    signed: bool = False,
    slope: float | Sequence[float] = 1.0,
    intercept: float | Sequence[float] = 0.0,
    transfer_syntax: str = ExplicitVRLittleEndian,
    series_description: str = "t2_tse_sag",
    echo_time_ms: float = 102.0,
    repetition_time_ms: float = 3500.0,
    seed: int = 0,
    mutate: Mutation | None = None,
) -> list[Path]:
    """Write one series into `folder` and return its files in the order of increasing position along the normal.

    `mutate(dataset, index)` may spoil each data set before it is compressed and written; `index` counts
    along the normal from 0. `transfer_syntax` is a UID of pydicom.uid: any uncompressed one, deflated, RLE,
    JPEG-LS, JPEG 2000 and JPEGLosslessSV1. The other arguments are those of `make_datasets`.
    """
    datasets = make_datasets(
        slices=slices, rows=rows, columns=columns, spacing_mm=spacing_mm, oblique_deg=oblique_deg, plane=plane,
        dtype=dtype, bits_stored=bits_stored, signed=signed, slope=slope, intercept=intercept,
        series_description=series_description, echo_time_ms=echo_time_ms,
        repetition_time_ms=repetition_time_ms, seed=seed,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, ds in enumerate(datasets):
        if mutate is not None:
            mutate(ds, k)
        paths.append(write_dataset(ds, folder / f"IM{seed:02d}{len(datasets) - k:04d}.dcm", transfer_syntax))
    return paths


def decimal(value: float) -> DSfloat:
    """A decimal string of at most 16 characters."""
    return DSfloat(float(value), auto_format=True)


def _uid(*sources: object) -> UID:
    return generate_uid(entropy_srcs=["spinepaint.tests", *(str(source) for source in sources)])


def _header(seed: int, index: int) -> FileDataset:
    """What every instance of an MR series of the invented patient carries, whatever its pixels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = _uid("instance", seed, index)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, object] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyDate": "20200102", "SeriesDate": "20200102", "AcquisitionDate": "20200102", "ContentDate": "20200102",
        "StudyTime": "101112", "SeriesTime": "101213", "AcquisitionTime": "101314", "ContentTime": "101314",
        "AccessionNumber": "A0001", "Modality": "MR",
        "Manufacturer": "Invented Imaging", "ManufacturerModelName": "Nought", "DeviceSerialNumber": "0",
        "SoftwareVersions": "1", "InstitutionName": "Nowhere", "ReferringPhysicianName": "",
        "StudyDescription": "Lumbar spine",
        "PatientName": "Invented^Patient", "PatientID": "INVENTED-1", "PatientBirthDate": "19700101", "PatientSex": "O",
        "PatientAge": "050Y", "PatientWeight": "70", "BodyPartExamined": "LSPINE",
        "ScanningSequence": "SE", "SequenceVariant": ["SK", "SP"], "ScanOptions": "", "MRAcquisitionType": "2D",
        "SequenceName": "tse2d1_17", "NumberOfAverages": "1", "ImagingFrequency": "63.6", "ImagedNucleus": "1H",
        "EchoNumbers": 1, "MagneticFieldStrength": "1.5", "EchoTrainLength": 17, "PixelBandwidth": "190",
        "FlipAngle": "150", "PatientPosition": "HFS",
        "StudyInstanceUID": _uid("study"), "SeriesInstanceUID": _uid("series", seed),
        "StudyID": "1", "SeriesNumber": seed + 1, "AcquisitionNumber": 1,
        "FrameOfReferenceUID": _uid("frame of reference"), "PositionReferenceIndicator": "",
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "WindowCenter": "2000", "WindowWidth": "4000",
    }  # fmt: skip
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds
