"""One HTML file with every figure and the pictures, and plain values for `evaluation.json`."""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spinepaint.training.evaluation.similarity import MS_SSIM
from spinepaint.training.evaluation.tables import ALL

F32 = NDArray[np.float32]

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
h1,h2,h3{line-height:1.2}h2{margin-top:2.5rem;border-bottom:1px solid #ccd}table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #e4e7ec;font-variant-numeric:tabular-nums}
th:first-child,td:first-child,.words{text-align:left}tr.best td{font-weight:600}tr.base td{color:#667}
.note{color:#556}.grid{display:grid;gap:3px;margin:1rem 0}.grid img{width:100%;image-rendering:auto}.grid div{font-size:12px}"""


def as_plain(value: Any) -> Any:
    """Dataclasses, numpy and nan as JSON knows them: objects, lists, numbers and null."""
    if is_dataclass(value) and not isinstance(value, type):
        return as_plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [as_plain(item) for item in value]
    if isinstance(value, np.generic):
        return as_plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def html_report(figures: Mapping[str, Any], pictures: Iterable[Mapping[str, Any]]) -> str:
    """The report: self-contained, no script, no link. `figures` is what `evaluation.json` holds."""
    bundle, settings = figures["bundle"], figures["settings"]
    what = ", ".join(f"{name} {value}" for name, value in settings.items() if not isinstance(value, list))
    head = f"<h1>Evaluation of bundle {escape(bundle['name'])}</h1><p class=note>SHA-256 {bundle['sha256']}<br>{escape(what)}</p>"
    sections = [head]
    for name, section in _SECTIONS.items():
        if name in figures:
            sections.append(section(figures[name], figures["extractor"]))
    sections += [_pictures(picture) for picture in pictures]
    body = "\n".join(sections)
    top = f"<!doctype html><html lang=en><meta charset=utf-8><title>Spinepaint evaluation</title><style>{_STYLE}</style>"
    return f"{top}{body}</html>\n"


def _number(value: Any, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _interval(value: Mapping[str, Any] | None, digits: int = 3) -> str:
    if value is None or value["value"] is None:
        return "–"
    ends = "" if value["low"] is None else f" [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"
    return f"{value['value']:.{digits}f}{ends}"


def _percent(value: Mapping[str, Any]) -> str:
    return "–" if value["value"] is None else f"{value['value']:.0%} [{value['low']:.0%}, {value['high']:.0%}]"


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]], kinds: Iterable[str] = ()) -> str:
    marks = list(kinds)
    lines = ["<tr>" + "".join(f"<th>{escape(head)}</th>" for head in heads) + "</tr>"]
    for number, row in enumerate(rows):
        kind = f' class="{marks[number]}"' if number < len(marks) and marks[number] else ""
        lines.append(f"<tr{kind}>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>")
    return "<table>" + "".join(lines) + "</table>"


def _tables(part: Mapping[str, Any], extractor: str) -> str:
    out = [f"<h2>Distance to real lesions</h2><p class=note>2.5 × 2.5 × 5 cm at the landmark. FID and KID: {escape(extractor)}."]
    out.append(
        f" {MS_SSIM}, between samples. † too few images for the FID to be believed: go by the KID. A FID falls with N: compare "
        "it with the real-against-real row of its own cell only. Pale rows are no method.</p>"
    )
    for rival, count in part["wins"].items():
        out.append(
            f"<p>{escape(part['first'])} is under {escape(rival)} in {count['fid']} of {count['cells']} cells by FID, "
            f"in {count['kid']} by KID.</p>"
        )
    cells: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in part["rows"]:
        cells.setdefault((row["fsu"], row["condition"]), []).append(row)
    for (fsu, condition), rows in sorted(cells.items(), key=lambda item: item[0][0] != ALL):
        painted = [row for row in rows if row["method"] not in ("real against real", "untouched")]
        best = min(painted, key=lambda row: row["kid"]["value"], default=None)
        kinds = ["base" if row not in painted else "best" if row is best else "" for row in rows]
        lines = [
            (row["method"], row["n"], _number(row["fid"]) + "†" * row["few"], _interval(row["kid"], 4), _number(row["ms_ssim"]))
            for row in rows
        ]
        out.append(f"<h3>{escape(fsu)}, {escape(condition)}</h3>")
        out.append(_table(("method", "n", "FID", "KID [95 %]", "MS-SSIM"), lines, kinds))
    return "\n".join(out)


def _presence(part: Mapping[str, Any], _extractor: str) -> str:
    kept_out = {row["condition"]: row["specificity"] for row in part["specificity"]}
    truth = [
        (row["condition"], row["n"], _percent(row["asked_class"]), _percent(kept_out[row["condition"]])) for row in part["truth"]
    ]
    note = (
        "<p class=note>Measured on the phantom's own geometry (docs/2-definitions.md). First, what the measure says of phantoms "
        "that truly have the lesion: no edit can be expected to do better. Specificity is against the same pathology's other "
        "severity.</p>"
    )
    out = ["<h2>Pathology present</h2>", note, _table(("truth", "n", "sensitivity", "specificity"), truth)]
    for name, rows in (("untouched", part["untouched"]), *part["methods"].items()):
        lines = [
            (
                row["condition"],
                row["n"],
                _percent(row["asked_class"]),
                _percent(row["any_class"]),
                " / ".join(map(str, row["none_lesser_greater"])),
                _interval(row["measured_degree"], 2),
            )
            for row in rows
        ]
        heads = ("asked", "n", "asked severity", "pathology at all", "none / lesser / greater", "mean degree")
        out.append(f"<h3>{escape(name)}</h3>" + _table(heads, lines))
        for row in part["monotony"].get(name, ()):
            share, difference = _percent(row["greater_measures_more"]), _interval(row["mean_difference"], 2)
            out.append(
                f"<p>{escape(row['pathology'])}: the greater severity measures more in {share}, by {difference} on average.</p>"
            )
        for pathology, row in part["obedience"].get(name, {}).items():
            out.append(
                f"<p>{escape(pathology)}: asked against measured degree r {row['r']:.2f}, mean error {row['mean_error']:.2f}.</p>"
            )
    return "\n".join(out)


def _blending(part: Mapping[str, Any], _extractor: str) -> str:
    rows = []
    for name, row in part.items():
        if row["n"]:
            noise, seam = (" / ".join(_number(q, 2) for q in row[key]) for key in ("noise_quartiles", "seam_quartiles"))
            shares = _percent(row["noise_within_15_percent"]), _percent(row["seam_at_most_1_1"])
            rows.append((name, row["n"], noise, shares[0], seam, shares[1]))
    heads = ("method", "n", "noise ratio, quartiles", "within 15 %", "seam ratio, quartiles", "at most 1.1")
    note = "<p class=note>Noise inside the edit over the ring around it; gradient over its border; both against the source's.</p>"
    return "<h2>Noise and seam</h2>" + note + _table(heads, rows)


def _memorisation(part: Mapping[str, Any], _extractor: str) -> str:
    note = (
        "<p class=note>Normalised cross-correlation and SSIM of the edited patch with its nearest training patch; the threshold "
        "is what held-out patches reach. The surround is the donor's own anatomy, by design.</p>"
    )
    out = ["<h2>Memorisation</h2>", note]
    for name, found in part.items():
        limit, median = found["threshold"], found["median"]
        numbers = [
            (k.upper(), *(_number(v) for v in (median["edited"][k], median["validation"][k], limit[k]))) for k in ("ncc", "ssim")
        ]
        out.append(f"<h3>{escape(name)}</h3>" + _table(("", "edited, median", "held out, median", "threshold"), numbers))
        chance = (100 - found["percentile"]) / 100 * found["edited"]
        out.append(
            f"<p>{len(found['flagged'])} of {found['edited']} flagged against {found['training']} training patches; "
            f"by chance about {chance:.1f} for either figure.</p>"
        )
        flagged = [(row["edited"], row["training"], _number(row["ncc"]), _number(row["ssim"])) for row in found["flagged"]]
        if flagged:
            out.append(_table(("edited", "training", "NCC", "SSIM"), flagged))
    return "\n".join(out)


def _downstream(part: Mapping[str, Any], _extractor: str) -> str:
    rows = [(name, _interval(part[key])) for name, key in (("without", "mean_without"), ("with", "mean_with"), ("gain", "gain"))]
    note = (
        f"<p class=note>Macro AUC of healthy, herniation and stenosis on {part['test_cases']} held-out levels, "
        f"{len(part['auc_with'])} seeds, {part['steps']} steps each: {part['rare_cases_of_each_pathology']} real cases of each "
        f"pathology, {part['healthy_cases']} healthy, with and without {part['synthetic_cases']} synthetic ones.</p>"
    )
    return "<h2>Downstream gain</h2>" + note + _table(("synthetic cases", "mean [95 %]"), rows)


def _real(part: Mapping[str, Any], extractor: str) -> str:
    discs = max((row["herniated_discs"] for row in part["rows"]), default=0)
    note = (
        f"<h2>Real slices</h2><p class=note>Mid-sagittal patches against {discs} discs that radiologists graded herniated, "
        f"{part['herniated_held_out_discs']} of them held-out patients', the others' learnt from. {escape(extractor)}. "
        "SPIDER, van der Graaf et al. 2024, CC BY 4.0.</p>"
    )
    lines = [
        (
            f"{row['set']} {row['severity']}",
            row["n"],
            row["n_herniated"],
            _number(row["fid"]) + "†" * row["few"],
            _interval(row["kid"], 4),
        )
        for row in part["rows"]
    ]
    return note + _table(("set", "n", "herniated patches", "FID", "KID [95 %]"), lines)


def _reconstruction(part: Mapping[str, Any], _extractor: str) -> str:
    note = (
        f"<h2>Autoencoder</h2><p class=note>{part['crops']} crops of {part['patients']} held-out patients' slices, encoded, "
        "quantised and decoded; intervals over patients. SPIDER, van der Graaf et al. 2024, CC BY 4.0.</p>"
    )
    quartiles = " / ".join(_number(q, 1) for q in part["psnr_quartiles_db"])
    row = (_interval(part["psnr_db"], 2), quartiles, _interval(part["ssim"], 3))
    return note + _table(("PSNR in dB, mean [95 %]", "quartiles", "SSIM, mean [95 %]"), [row])


_SECTIONS = {
    "tables": _tables,
    "presence": _presence,
    "blending": _blending,
    "memorisation": _memorisation,
    "downstream": _downstream,
    "real": _real,
    "reconstruction": _reconstruction,
}


def _pictures(picture: Mapping[str, Any]) -> str:
    names = list(picture["columns"])
    cells = ["<div></div>"] + [f"<div>{escape(name)}</div>" for name in names]
    for number, label in enumerate(picture["labels"]):
        cells.append(f"<div>{escape(label)}</div>")
        cells += [f'<img alt="{escape(name)} {number}" src="{_png(picture["columns"][name][number])}">' for name in names]
    columns = f"grid-template-columns:4rem repeat({len(names)},1fr)"
    return f'<h2>{escape(picture["title"])}</h2><div class=grid style="{columns}">' + "".join(cells) + "</div>"


def _png(image: F32) -> str:
    """A picture in [0, 1] as a data URL, its own darkest and brightest per cent as black and white."""
    low, high = np.percentile(image, (1, 99))
    grey = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1)
    file = io.BytesIO()
    Image.fromarray((255 * grey).astype(np.uint8)).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
