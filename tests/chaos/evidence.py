"""What is found at the end, from outside: by SQL of our own, by the bucket's own listing, and over HTTP as a client."""

import io
import json
import zipfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from pydicom import dcmread

from tests.chaos.callers import Asked
from tests.chaos.servers import Postgres
from tests.chaos.standin import output_uid, painted

FINAL = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Row:
    """A job as the database has it."""

    id: str
    key: str
    state: str
    attempts: int
    seed: int
    problem: dict[str, Any] | None
    result_key: str | None


def job_rows(postgres: Postgres) -> list[Row]:
    """Every job."""
    query = "SELECT id, idempotency_key, state, attempts, (spec->>'seed')::bigint, problem, result_key FROM jobs"
    return [Row(*row) for row in postgres.rows(query)]


def succeeded(postgres: Postgres) -> list[int]:
    """The seeds of jobs that have succeeded by now."""
    return [row[0] for row in postgres.rows("SELECT (spec->>'seed')::bigint FROM jobs WHERE state = 'succeeded'")]


def ends_of_jobs(postgres: Postgres) -> dict[str, list[tuple[str, bool]]]:
    """The states in which a job ended, by its id, each with whether it was the last of its events; one of them is right."""
    query = "SELECT job_id, data->>'state', seq = max(seq) OVER (PARTITION BY job_id), type FROM events ORDER BY job_id, seq"
    found: defaultdict[str, list[tuple[str, bool]]] = defaultdict(list)
    for job_id, state, last, kind in postgres.rows(query):
        if kind == "state" and state in FINAL:
            found[job_id].append((state, last))
    return found


def unsettled(postgres: Postgres) -> dict[str, int]:
    """What there is still to be done."""
    questions = {
        "jobs": "SELECT count(*) FROM jobs WHERE state NOT IN ('succeeded', 'failed', 'cancelled')",
        "webhooks": "SELECT count(*) FROM deliveries WHERE state = 'owed'",
        "deliveries": "SELECT count(*) FROM dicom_deliveries WHERE state = 'pending'",
    }
    counts = {what: int(postgres.rows(query)[0][0]) for what, query in questions.items()}
    return {what: count for what, count in counts.items() if count}


def discards(postgres: Postgres) -> list[str]:
    """Prefixes that are to be deleted from the bucket."""
    return [row[0] for row in postgres.rows("SELECT prefix FROM discards ORDER BY prefix")]


def named_prefixes(postgres: Postgres) -> list[str]:
    """Prefixes of files that there is a reason for: sources of series, results of jobs that succeeded."""
    query = "SELECT artifact_key FROM series UNION SELECT result_key FROM jobs WHERE state = 'succeeded'"
    return [row[0] for row in postgres.rows(query)]


def lone_series(postgres: Postgres) -> int:
    """Series that no job reads."""
    query = "SELECT count(*) FROM series WHERE NOT EXISTS (SELECT FROM jobs WHERE series_id = series.id)"
    return int(postgres.rows(query)[0][0])


def rows_left(postgres: Postgres) -> dict[str, int]:
    """Rows of tables that nothing but series and jobs puts there."""
    tables = (
        "series",
        "jobs",
        "events",
        "outbox",
        "deliveries",
        "dicom_deliveries",
        "dicom_series",
        "dicom_instances",
        "discards",
    )
    counts = {table: int(postgres.rows(f"SELECT count(*) FROM {table}")[0][0]) for table in tables}
    return {table: count for table, count in counts.items() if count}


def wrong_result(client: httpx.Client, url: str, row: Row, asked: Asked) -> str | None:
    """What is wrong with the result that a client gets for a job; None where it is that job's, whole."""
    answer = client.get(f"{url}/v1/jobs/{row.id}/result")
    if answer.status_code != 200:
        return f"its result answers {answer.status_code}"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        if (bad := archive.testzip()) is not None:
            return f"{bad} in its zip is damaged"
        content = {name: archive.read(name) for name in archive.namelist()}
    return wrong_files(content, asked) or _wrong_report(client, url, row, asked)


def wrong_files(content: dict[str, bytes], asked: Asked) -> str | None:
    report = json.loads(content.pop("sample-01/report.json", b"{}"))
    if report.get("spec", {}).get("seed") != asked.seed or report["source"]["sha256"] != asked.source.sha256:
        return f"its zip's report is of another job: {report}"
    if not content.pop("sample-01/preview.png", b"").endswith(b"\n" + str(asked.seed).encode()):
        return "its preview is of another job"
    sha256, seed = asked.source.sha256, asked.seed
    instances = [dcmread(io.BytesIO(data)) for _, data in sorted(content.items())]
    if {str(one.SeriesInstanceUID) for one in instances} != {output_uid(sha256, seed)}:
        return "its series is of another job, or there is none"
    wanted = [output_uid(sha256, seed, index) for index in range(len(asked.source.files))]
    if [str(one.SOPInstanceUID) for one in instances] != wanted:
        return f"it has {len(instances)} instances, of which some are missing, doubled or another job's"
    expected = Counter(painted(dcmread(io.BytesIO(data)).PixelData, seed) for data in asked.source.files.values())
    return None if Counter(one.PixelData for one in instances) == expected else "its pixels are not those of its job"


def _wrong_report(client: httpx.Client, url: str, row: Row, asked: Asked) -> str | None:
    view = client.get(f"{url}/v1/jobs/{row.id}").json()
    if (view["state"], view["attempts"]) != (row.state, row.attempts):
        return f"a gateway says {view['state']} of it, the database {row.state}"
    report = client.get(f"{url}/v1/jobs/{row.id}/report").json()
    return None if report["spec"]["seed"] == asked.seed else "its report is of another job"


def purge(client: httpx.Client, urls: Sequence[str], postgres: Postgres) -> list[str]:
    """Delete all series with all that was made of them, over HTTP; what was refused."""
    refused = []
    for number, (series_id,) in enumerate(postgres.rows("SELECT id FROM series ORDER BY id")):
        answer = client.delete(f"{urls[number % len(urls)]}/v1/series/{series_id}", params={"results": "delete"})
        if answer.status_code != 204:
            refused.append(f"deleting a series answers {answer.status_code} {answer.text}")
    return refused
