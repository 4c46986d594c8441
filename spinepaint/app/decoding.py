"""Gives stored instances uncompressed, decoded in a process of its own: `python -m spinepaint.app.decoding`.

What is decoded was accepted when it was stored; the process keeps native decoders, and their memory, out of the gateway.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

from spinepaint.app import leash
from spinepaint.app.threads import Threads

TIMEOUT_S = 60.0
DECODING = Threads("spinepaint-decoding", 2)
"""Each has a process, which may need a processor and the memory of an instance."""


class DecodingFailed(Exception):
    """An instance could not be given uncompressed."""


def decode_apart(source: Path, target: Path) -> list[list[tuple[int, int]]]:
    """Write the instance in `source` as Explicit VR Little Endian to `target`; the ranges of its frames there.

    The process that does it has ended by then. Raises DecodingFailed, also where that takes longer than a minute.
    """
    argv = [sys.executable, "-I", leash.__file__, str(os.getpid()), sys.executable, "-m", "spinepaint.app.decoding"]
    asked = json.dumps({"source": str(source), "target": str(target)})
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            argv, input=asked, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
        answer: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError):
        raise DecodingFailed from None
    return cast(list[list[tuple[int, int]]], answer["frames"])


def decode_file(source: Path, target: Path) -> list[list[tuple[int, int]]]:
    """What `decode_apart` does, in this process."""
    from pydicom import FileDataset, dcmread
    from pydicom.uid import ExplicitVRLittleEndian

    from spinepaint.imaging.caps import Caps
    from spinepaint.imaging.dicom_index import index_instance
    from spinepaint.imaging.read_header import read_header
    from spinepaint.imaging.read_pixels import decode
    from spinepaint.imaging.unpacking import DiskFile

    ds = dcmread(source, force=True)
    if "PixelData" in ds:
        stored = decode(ds, read_header(DiskFile(source, source.name), Caps()))
        pixels = stored.tobytes()
        ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
        ds["PixelData"].VR = "OW" if stored.dtype.itemsize > 1 else "OB"
        ds["PixelData"].is_undefined_length = False
    if not hasattr(ds, "file_meta"):
        ds.ensure_file_meta()
    for _element in ds.iterall():  # values that are not parsed yet are bytes in the order of the source
        pass
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    written = FileDataset("", ds, b"\0" * 128, ds.file_meta, is_implicit_VR=False, is_little_endian=True)
    written.save_as(target, enforce_file_format=True)
    with target.open("rb") as stream:
        indexed = index_instance(stream)
    return [] if indexed is None else indexed.frames


if __name__ == "__main__":
    request = json.load(sys.stdin)
    json.dump({"frames": decode_file(Path(request["source"]), Path(request["target"]))}, sys.stdout)
