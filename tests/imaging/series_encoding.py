"""Writes an uncompressed data set of the tests in any transfer syntax that the reader has to know."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import FileDataset, dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
)

gdcm: Any = import_module("gdcm")  # it has no type hints

_UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)


def write_dataset(ds: FileDataset, path: Path, transfer_syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write one uncompressed little-endian data set as `path` in the given transfer syntax, and return `path`."""
    uid = UID(transfer_syntax)
    if uid in _UNCOMPRESSED:
        ds.file_meta.TransferSyntaxUID = uid
        ds.save_as(path, enforce_file_format=True, implicit_vr=uid == ImplicitVRLittleEndian, little_endian=True)
    elif uid == ExplicitVRBigEndian:
        if "PixelData" in ds:
            ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        ds.file_meta.TransferSyntaxUID = uid
        big = FileDataset("", ds, ds.preamble, ds.file_meta, is_implicit_VR=False, is_little_endian=False)
        big.save_as(path, enforce_file_format=True)
    elif uid == JPEGLosslessSV1:
        write_dataset(ds, path)
        _change_transfer_syntax_by_gdcm(path)
    else:
        ds.compress(uid, generate_instance_uid=False)
        ds.save_as(path, enforce_file_format=True)
    return path


def _change_transfer_syntax_by_gdcm(path: Path) -> None:
    """Encode the pixels of `path` as JPEG Lossless, for which pydicom has no encoder, and keep its header."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    if not reader.Read():
        raise ValueError(f"gdcm could not read {path.name}")
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise ValueError("gdcm could not encode the pixels")
    writer = gdcm.ImageWriter()
    encoded = path.with_suffix(".gdcm")
    writer.SetFileName(str(encoded))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise ValueError("gdcm could not write the file")
    pixels = dcmread(encoded)
    encoded.unlink()
    whole = dcmread(path)
    whole["PixelData"] = pixels["PixelData"]
    whole.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    whole.save_as(path, enforce_file_format=True)
