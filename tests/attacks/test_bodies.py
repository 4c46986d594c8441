"""Requests whose size, length or encoding is the attack, byte by byte at the socket of a running gateway."""

import gzip
import json
import zlib
from collections.abc import Iterator

import pytest

from tests.attacks.serving import MIB, Serving, problem, unharmed
from tests.attacks.wire import head, say

FORM = {"Content_Type": "multipart/form-data; boundary=b"}
PART = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.dcm"\r\n\r\n'
UPLOADS = ("/v1/series", "/v1/series:check", "/v1/inpaint")
POSTS = (*UPLOADS, "/v1/jobs", "/v1/batches", "/dicom-web/studies")
TYPES = {
    **dict.fromkeys(UPLOADS, FORM["Content_Type"]),
    "/v1/jobs": "application/json",
    "/v1/batches": "application/json",
    "/dicom-web/studies": 'multipart/related; type="application/dicom"; boundary=b',
}
CAP_OF = {"/v1/jobs": "max-body-bytes", "/v1/batches": "max-batch-bytes"}


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("length", [2**32 - 1, 2**40, 2**63, 10**19])
def test_a_huge_length_allocates_nothing_and_is_refused_at_once(gateway: Serving, path: str, length: int) -> None:
    """CVE-2026-5440: a length is a claim, for which nothing is reserved."""
    with unharmed(gateway, more_mib=8):
        answer = say(gateway, head(gateway, "POST", path, Content_Type=TYPES[path], Content_Length=str(length)) + PART + b"x")
        assert (answer.status, answer.slug) == (413, f"over-cap-{CAP_OF.get(path, 'upload-bytes')}")


@pytest.mark.parametrize("length", ["1" * 21, "9" * 5000, "-1", "+5", "1 2", "0x10", "5, 6", "٣"])
def test_a_length_that_is_none_is_no_request(gateway: Serving, length: str) -> None:
    with unharmed(gateway, more_mib=8):
        written = length.encode("utf-8").decode("latin-1")
        answer = say(gateway, head(gateway, "POST", "/v1/jobs", Content_Type="application/json", Content_Length=written))
        assert (answer.status, answer.slug) == (400, "malformed-request")


@pytest.mark.parametrize(
    "fields",
    [
        {"Transfer_Encoding": "gzip, chunked"},
        {"Transfer_Encoding": "gzip"},
        {"Transfer_Encoding": "chunked, chunked"},
        {"Transfer_Encoding": "xchunked"},
    ],
)
def test_a_transfer_coding_that_would_have_to_be_unpacked_is_no_request(gateway: Serving, fields: dict[str, str]) -> None:
    with unharmed(gateway, more_mib=8):
        answer = say(gateway, head(gateway, "POST", "/v1/jobs", Content_Type="application/json", **fields) + b"0\r\n\r\n")
        assert (answer.status, answer.slug) == (400, "malformed-request")


def test_two_lengths_that_differ_are_no_request(gateway: Serving) -> None:
    """As a request within a request would be smuggled past a proxy."""
    first = head(gateway, "POST", "/v1/jobs", Content_Type="application/json", Content_Length="5")
    doubled = first.replace(b"Content-Length: 5", b"Content-Length: 5\r\nContent-Length: 50")
    with unharmed(gateway, more_mib=8):
        assert say(gateway, doubled + b"{}   GET /v1/jobs HTTP/1.1\r\n\r\n").slug == "malformed-request"


@pytest.mark.parametrize("path", UPLOADS)
def test_more_than_was_said_is_cut_off_where_the_cap_is(gateway: Serving, path: str) -> None:
    """Without a length, 60 MB by chunks: no more than the cap of 20 MB is ever kept."""

    def pieces() -> Iterator[bytes]:
        yield head(gateway, "POST", path, **FORM, Transfer_Encoding="chunked")
        yield b"%x\r\n" % len(PART) + PART + b"\r\n"
        for _ in range(60):
            yield b"%x\r\n" % MIB + bytes(MIB) + b"\r\n"

    with unharmed(gateway):
        answer = say(gateway, pieces())
        assert (answer.status, answer.slug) == (413, "over-cap-upload-bytes")
        assert "upload_bytes is 2e+07 here" in answer.detail


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZIP", "x-gzip", "identity, gzip", "zstd"])
def test_compressed_bodies_are_not_inflated(gateway: Serving, path: str, encoding: str) -> None:
    """CVE-2026-5438."""
    squeezed = gzip.compress(bytes(5 * MIB)) if "gzip" in encoding.lower() else zlib.compress(bytes(5 * MIB))
    with unharmed(gateway, more_mib=8):
        answer = gateway.client.post(path, content=squeezed, headers={"Content-Type": TYPES[path], "Content-Encoding": encoding})
        assert problem(answer) == (415, "unsupported-encoding")


def test_a_second_content_encoding_does_not_hide_behind_the_first(gateway: Serving) -> None:
    fields = [("Content-Type", TYPES["/v1/jobs"]), ("Content-Encoding", "identity"), ("Content-Encoding", "gzip")]
    with unharmed(gateway, more_mib=8):
        answer = gateway.client.post("/v1/jobs", content=gzip.compress(bytes(MIB)), headers=fields)
        assert problem(answer) == (415, "unsupported-encoding")


@pytest.mark.parametrize("path", UPLOADS)
def test_thousands_of_tiny_files_are_refused_by_their_number(gateway: Serving, path: str) -> None:
    body = b"".join(PART + b"x\r\n" for _ in range(5000)) + b"--b--\r\n"
    with unharmed(gateway):
        answer = gateway.client.post(path, content=body, headers={"Content-Type": FORM["Content_Type"]})
        assert problem(answer) == (413, "over-cap-upload-files")
        assert "upload_files is 300 here" in answer.json()["detail"]


def test_tiny_files_up_to_the_cap_are_each_named(gateway: Serving) -> None:
    with unharmed(gateway):
        answer = gateway.client.post("/v1/series", files=[("files", (f"{n}.dcm", b"x")) for n in range(300)])
        assert problem(answer) == (422, "no-dicom")
        assert len(answer.json()["instances"]) == 300


def part_with(fields: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n' + fields + b"\r\nx\r\n--b--\r\n"


@pytest.mark.parametrize("path", [*UPLOADS, "/dicom-web/studies"])
@pytest.mark.parametrize(
    "fields",
    [b"".join(b"X-%d: y\r\n" % number for number in range(100_000)), b"X: " + b"y" * 5_000_000 + b"\r\n", b"y" * 5_000_000],
    ids=["a hundred thousand", "one of 5 MB", "a name of 5 MB"],
)
def test_the_head_of_a_part_is_bounded(gateway: Serving, path: str, fields: bytes) -> None:
    """CVE-2026-42561: header fields of a part, very many or very long."""
    with unharmed(gateway):
        answer = gateway.client.post(path, content=part_with(fields), headers={"Content-Type": TYPES[path]})
        assert problem(answer) == (400, "malformed-upload")


@pytest.mark.parametrize("path", [*UPLOADS, "/dicom-web/studies"])
def test_a_boundary_is_bounded(gateway: Serving, path: str) -> None:
    long = TYPES[path].replace("boundary=b", "boundary=" + "b" * 5000)
    with unharmed(gateway):
        answer = gateway.client.post(path, content=b"--" + b"b" * 5000 + b"\r\n", headers={"Content-Type": long})
        assert problem(answer) == (400, "malformed-upload")


def test_a_body_without_a_delimiter_is_passed_over_in_no_memory(gateway: Serving) -> None:
    """10 MB that are all preamble, each line of which is nearly a delimiter."""
    with unharmed(gateway):
        answer = gateway.client.post("/v1/series", content=b"\n--bb" * 2_000_000, headers={"Content-Type": FORM["Content_Type"]})
        assert problem(answer) == (400, "malformed-upload")


@pytest.mark.parametrize("many", [2_000_000, 100])
def test_json_that_nests_or_is_long_is_refused(gateway: Serving, many: int) -> None:
    body = b'{"series_id": ' + b"[" * many
    with unharmed(gateway, more_mib=8):
        for path in ("/v1/jobs", "/v1/batches"):
            answer = gateway.client.post(path, content=body, headers={"Content-Type": "application/json"})
            assert problem(answer)[0] == (413 if many > 1000 else 400)


def test_a_number_of_thousands_of_digits_is_refused(gateway: Serving) -> None:
    body = b'{"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small", "seed": ' + b"9" * 9000 + b"}"
    with unharmed(gateway, more_mib=8):
        answer = gateway.client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
        assert problem(answer)[0] in (400, 422)
        assert "9999" not in answer.text


def test_a_batch_of_very_many_items_is_refused_by_its_cap(gateway: Serving) -> None:
    spec = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small"}
    body = json.dumps({"series_ids": ["x"] * 300, "specs": [spec] * 20}).encode()
    with unharmed(gateway, more_mib=8):
        answer = gateway.client.post("/v1/batches", content=body, headers={"Content-Type": "application/json"})
        assert problem(answer) == (413, "over-cap-max-batch-jobs")


def test_a_head_of_any_size_is_no_request(gateway: Serving) -> None:
    for fields in (b"X: " + b"y" * 2_000_000, b"".join(b"X-%d: y\r\n" % number for number in range(100_000))):
        with unharmed(gateway, more_mib=8):
            answer = say(gateway, b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n\r\n")
            assert answer.status in (0, 400)  # 0: it had closed before all was sent, and the answer was lost
