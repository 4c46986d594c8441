"""What the zip of a batch says of its samples, ready for a training set: where they lie, what they show, their split."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from spinepaint.store.batches import BatchItem
from spinepaint.store.models import JobState

Split = Literal["train", "val", "test"]
ONE_IN = 8
DELETED = {"type": "https://spinepaint.invalid/problems/result-deleted", "title": "The result was deleted.", "status": 404}


def split_of(patient: str) -> Split:
    """The split of a patient by a hash of the identifier: six in eight are for training, one validates, one tests.

    It depends on nothing else, so it is the same in every batch and on every machine; and who is held out of the real data by
    `training.datasets.manifest.split_of` is in the test split here.
    """
    number = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") % ONE_IN
    return "test" if number == 0 else "val" if number == 1 else "train"


def item_folder(index: int) -> str:
    """The folder of an item in the zip."""
    return f"item-{index:05d}/"


def sample_lines(
    item: BatchItem, names: Sequence[str], reports: Mapping[str, Mapping[str, Any]], patient: str | None
) -> Iterator[dict[str, Any]]:
    """The manifest's line of each sample of an item.

    `names` are the files of its result, `reports` the report.json of each sample by its folder. UIDs are those that the report
    tells, so of a de-identified result its pseudonyms. `patient` only chooses the split, and is None where nobody knows.
    """
    for sample, report in sorted(reports.items()):
        own = [name for name in names if name.startswith(f"{sample}/")]
        folder = item_folder(item.index) + sample
        spec = {**item.spec, **report.get("spec", {})}
        yield {
            "index": item.index,
            "sample": int(sample.removeprefix("sample-")),
            "job_id": item.job_id,
            "series": f"{folder}/series" if any(name.startswith(f"{sample}/series/") for name in own) else None,
            "labels": {
                name.rsplit("/", 1)[-1].removesuffix(".dcm"): item_folder(item.index) + name
                for name in own
                if name.startswith(f"{sample}/labels/")
            },
            "report": f"{folder}/report.json",
            "preview": f"{folder}/preview.png" if f"{sample}/preview.png" in own else None,
            "pathology": spec.get("pathology"),
            "severity": spec.get("severity"),
            "fsu": spec.get("fsu"),
            "landmark_lps_mm": report.get("landmark_lps_mm"),
            "seed": spec.get("seed"),
            "source_series_uid": report.get("source", {}).get("series_uid"),
            "output_series_uid": report.get("output", {}).get("series_uid"),
            "verified": report.get("quality", {}).get("verified"),
            "split": None if patient is None else split_of(patient),
        }


def without_result(item: BatchItem) -> dict[str, Any]:
    """The line of `failed.jsonl` of an item of which the zip has nothing: its state, and its problem where there is one.

    Where a de-identified result was asked for, only what kind of problem it is: the rest may quote the source.
    """
    problem = DELETED if item.state == JobState.SUCCEEDED else item.problem
    told = ("type", "title", "status") if item.spec.get("deidentify") else ("type", "title", "status", "detail")
    return {
        "index": item.index,
        "job_id": item.job_id,
        "series_id": item.series_id,
        "state": item.state,
        "spec": {name: value for name, value in item.spec.items() if name != "series_uid"},
        "problem": None if problem is None else {name: problem[name] for name in told if name in problem},
    }
