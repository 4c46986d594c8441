"""Gives stored instances uncompressed, decoded in a process of its own: `python -m spinepaint.app.decoding`.

What is decoded was accepted when it was stored; the process keeps native decoders, and their memory, out of the gateway.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from spinepaint.app import leash

TIMEOUT_S = 60.0


class DecodingFailed(Exception):
    """An instance could not be given uncompressed."""


class Decoder:
    """A decoding process, started at the first use and ended with the context."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Nothing runs yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def decode(self, source: Path, target: Path) -> list[list[tuple[int, int]]]:
        """Write the instance in `source` as Explicit VR Little Endian to `target`; the ranges of its frames there.

        Raises DecodingFailed, also where that takes longer than a minute.
        """
        if self._process is None:
            argv = [sys.executable, "-I", leash.__file__, str(os.getpid()), sys.executable, "-m", "spinepaint.app.decoding"]
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        watchdog = threading.Timer(TIMEOUT_S, self._process.kill)
        watchdog.start()
        try:
            stdin, stdout = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
            stdin.write(json.dumps({"source": str(source), "target": str(target)}) + "\n")
            stdin.flush()
            answer: dict[str, Any] = json.loads(stdout.readline() or "{}")
        except (OSError, ValueError):
            answer = {}
        finally:
            watchdog.cancel()
        if "frames" not in answer:
            raise DecodingFailed
        return cast(list[list[tuple[int, int]]], answer["frames"])


def decode_file(source: Path, target: Path) -> list[list[tuple[int, int]]]:
    """What `Decoder.decode` does, in this process."""
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


def _main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer: dict[str, Any] = {"frames": decode_file(Path(request["source"]), Path(request["target"]))}
        except Exception as error:
            answer = {"failed": type(error).__name__}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _main()
