"""What is made of a multipart body as it is parsed: numbered files and text fields, under caps."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from python_multipart.multipart import parse_options_header

from spinepaint.imaging.caps import Caps
from spinepaint.imaging.errors import Refusal

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELD_BYTES = 64 * 1024


@dataclass
class Upload:
    """A received upload.

    Attributes
    ----------
    folder: where the numbered files lie.
    names: the client's name of each numbered file, for answers to that client only.
    fields: the text fields of the form.
    """

    folder: Path
    names: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        """The one file (a zip or a multi-frame instance), or the folder of many."""
        return self.folder / next(iter(self.names)) if len(self.names) == 1 else self.folder

    def named(self, refusal: Refusal) -> Refusal:
        """The refusal with the client's own file names in place of our numbers."""
        instances = [replace(i, file=self.names.get(Path(i.file).name, i.file)) for i in refusal.instances]
        return replace(refusal, instances=instances)


class Form:
    """The parser's callbacks: collects what a chunk holds, for `flush` to write off the event loop."""

    def __init__(self, upload: Upload, caps: Caps, fields: frozenset[str]) -> None:
        self.ended = False
        self._known = fields
        self._upload = upload
        self._caps = caps
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        self._value = bytearray()
        self._file: str | None = None
        self._pending: list[tuple[str, bytes]] = []
        self._open: IO[bytes] | None = None

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser calls."""
        return {
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def flush(self) -> None:
        """Write what the last chunk held, one file after the other: of them all only the one that goes on stays open."""
        for number, data in self._pending:
            if self._open is None:
                self._open = (self._upload.folder / number).open("xb")
            if data:
                self._open.write(data)
            else:  # the part has ended
                self._open.close()
                self._open = None
        self._pending.clear()

    def close(self) -> None:
        """Let go of the file that is open, however the upload ended."""
        if self._open is not None:
            self._open.close()

    def _header_end(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _headers_end(self) -> None:
        headers, self._headers = self._headers, {}
        self.part_begin(headers)

    def part_begin(self, headers: Mapping[bytes, bytes]) -> None:
        """A part of these headers (names in small letters) begins: a file or a field. Raises Refusal for any other."""
        _kind, options = parse_options_header(headers.get(b"content-disposition"))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name == "files":
            self.open_file(options.get(b"filename", b"").decode("utf-8", "replace"))
        elif name in self._known and name not in self._upload.fields:
            self._field = name
        else:
            known = ", ".join(sorted({"files"} | self._known))
            raise Refusal("invalid-request", "The form has an unknown or repeated field.", f"Known are: {known}.")

    def open_file(self, client_name: str) -> None:
        """Have the part that begins written to the next numbered file. Raises Refusal beyond the cap."""
        number = f"{len(self._upload.names) + 1:06d}"
        self._caps.enforce("upload_files", len(self._upload.names) + 1)
        printable = "".join(c for c in client_name if c.isprintable())
        self._upload.names[number] = printable.replace("\\", "/").rsplit("/", 1)[-1][:200] or number
        self._file = number

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._pending.append((self._file, data[start:end]))
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            detail = f"The cap is {MAX_FIELD_BYTES} bytes per field."
            raise Refusal("field-too-long", "A form field is too long.", detail, status=413)

    def _part_end(self) -> None:
        if self._file is not None:
            self._pending.append((self._file, b""))
        elif self._field is not None:
            self._upload.fields[self._field] = self._value.decode("utf-8", "replace")
        self._file, self._field, self._value = None, None, bytearray()

    def _end(self) -> None:
        self.ended = True


class Preamble:
    """Passes over what stands before the first delimiter of a multipart body, which says nothing (RFC 2046 5.1.1)."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\n--" + boundary
        self._held: bytearray | None = bytearray(b"\n")  # the delimiter may be the first line

    def rest(self, chunk: bytes) -> bytes:
        """What of the next bytes of the body the preamble leaves: from the delimiter on, all."""
        if self._held is None:
            return chunk
        self._held += chunk
        at = 0
        while (at := self._held.find(self._delimiter, at)) >= 0:
            end = at + len(self._delimiter)
            if end == len(self._held):
                break  # what follows will say whether it is one
            if self._held[end] in b"\r\n\t -":  # a delimiter, be it a malformed one, which is the parser's to refuse
                found = bytes(self._held[at + 1 :])
                self._held = None
                return found
            at = end
        del self._held[: at if at >= 0 else max(0, len(self._held) - len(self._delimiter) + 1)]
        return b""
