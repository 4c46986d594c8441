"""`spinepaint inpaint`: the pipeline in this process, no server."""

from json import loads
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from spinepaint.app.choices import Method, Solver
from spinepaint.app.cli.environment import settings_with
from spinepaint.app.cli.output import print_json, progress_bar
from spinepaint.app.cli.paths import existing, existing_folder, folder
from spinepaint.app.cli.signals import unwound_by_sigterm
from spinepaint.imaging.vocabulary import Fsu, Pathology, Severity


def inpaint(
    series: Annotated[Path, typer.Argument(parser=existing, metavar="SERIES", help="A folder, a zip or a multi-frame file.")],
    fsu: Annotated[Fsu, typer.Option(help="The functional spinal unit to edit.")],
    pathology: Annotated[Pathology, typer.Option(help="What to paint.")],
    severity: Annotated[Severity, typer.Option(help="How much of it.")],
    out: Annotated[Path, typer.Option(parser=folder, metavar="DIRECTORY", help="A new or empty folder for the results.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same pixels and UIDs.")] = 0,
    samples: Annotated[int, typer.Option(help="How many different results.")] = 1,
    method: Annotated[Method, typer.Option(help="How the edit is confined.")] = Method.WEIGHTED,
    solver: Annotated[Solver | None, typer.Option(help="The sampler; the bundle's default when left out.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps; the bundle's default when left out.")] = None,
    landmark: Annotated[str | None, typer.Option(help="X,Y,Z in patient LPS mm; localised when left out.")] = None,
    sigma_mm: Annotated[float | None, typer.Option(help="Reach of the edit around the landmark, in mm.")] = None,
    bundle: Annotated[Path | None, typer.Option(parser=existing_folder, metavar="DIRECTORY", help="Weights to use.")] = None,
    series_uid: Annotated[str | None, typer.Option(help="Which series, where SERIES holds several.")] = None,
    deidentify: Annotated[
        bool | None, typer.Option(help="Remove by DICOM PS3.15's basic profile what tells the patient; default by the settings.")
    ] = None,
    new_study: Annotated[bool, typer.Option("--new-study", help="Give the synthetic series a study of its own.")] = False,
    allow_synthetic: Annotated[bool, typer.Option("--allow-synthetic", help="Take a series that says it is synthetic.")] = False,
    attempts: Annotated[int, typer.Option(help="How often to draw until the result shows what was asked.")] = 3,
    require_verified: Annotated[
        bool, typer.Option("--require-verified", help="Fail where no attempt shows what was asked, instead of flagging it.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Paint a pathology into one disc of a sagittal T2 series and write a synthetic series."""
    settings = settings_with()
    given = {
        "pathology": pathology, "fsu": fsu, "severity": severity, "seed": seed, "samples": samples, "method": method,
        "solver": solver, "steps": steps, "landmark_lps_mm": _point(landmark), "sigma_mm": sigma_mm,
        "series_uid": series_uid, "deidentify": settings.deidentify if deidentify is None else deidentify,
        "new_study": new_study, "allow_synthetic": allow_synthetic, "attempts": attempts, "require_verified": require_verified,
    }  # fmt: skip
    spec = _resolve({key: value for key, value in given.items() if value is not None})
    if series.is_dir() and out.resolve().is_relative_to(series.resolve()):
        raise typer.BadParameter("may not lie in SERIES: its next reader would read the results too", param_hint="--out")

    from spinepaint.worker.staging import why_not_out

    if reason := why_not_out(out):
        raise typer.BadParameter(reason, param_hint="--out")

    from spinepaint.app.checking import survive_reading
    from spinepaint.worker.device import compute_for
    from spinepaint.worker.pipeline import run_pipeline

    survive_reading(series, series_uid, settings.caps, allow_synthetic=allow_synthetic)
    with unwound_by_sigterm(), progress_bar() as report:
        key = settings.deidentify_key.get_secret_value()
        compute = compute_for(settings.device, settings.worker_batch)
        result = run_pipeline(
            series, spec, out, bundle=bundle, compute=compute, progress=report, caps=settings.caps, deidentify_key=key
        )
    if json:
        print_json(result)
    else:
        for sample in sorted(out.glob("sample-*/report.json")):
            for warning in loads(sample.read_text())["warnings"]:
                typer.echo(f"warning: {sample.parent.name}: {warning}", err=True)
        typer.echo(f"Written to {out}", err=True)


def _resolve(given: dict[str, Any]) -> dict[str, Any]:
    """The pipeline's spec of the given options, checked by the same schema as the API's."""
    from spinepaint.app.schemas import InpaintSpec

    try:
        return InpaintSpec.model_validate(given).as_spec()
    except ValidationError as error:
        first = error.errors()[0]
        where = str(first["loc"][0]) if first["loc"] else "severity"
        hint = "--landmark" if where == "landmark_lps_mm" else f"--{where.replace('_', '-')}"
        raise typer.BadParameter(first["msg"], param_hint=hint) from None


def _point(text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        x, y, z = (float(part) for part in text.split(","))
        return x, y, z
    except ValueError:
        raise typer.BadParameter("give three numbers: X,Y,Z", param_hint="--landmark") from None
