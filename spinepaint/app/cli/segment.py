"""`spinepaint segment`: vertebrae, discs and canal of a series."""

from pathlib import Path
from typing import Annotated

import typer

from spinepaint.app.cli.environment import settings_with
from spinepaint.app.cli.output import print_json, progress_bar
from spinepaint.app.cli.paths import existing, existing_folder, folder
from spinepaint.app.cli.signals import unwound_by_sigterm


def segment(
    series: Annotated[
        Path, typer.Argument(parser=existing, metavar="SERIES", help="A folder, a zip or a multi-frame file; T2 or T1.")
    ],
    out: Annotated[Path, typer.Option(parser=folder, metavar="DIRECTORY", help="A new or empty folder for the results.")],
    bundle: Annotated[Path | None, typer.Option(parser=existing_folder, metavar="DIRECTORY", help="Weights to use.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="The plain network alone: faster, without an ensemble.")] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, max=1000, help="T, the noise levels; the bundle's own when left out.")
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Of the ensemble; the bundle's own when left out.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same masks and UIDs.")] = 0,
    series_uid: Annotated[str | None, typer.Option(help="Which series, where SERIES holds several.")] = None,
    allow_synthetic: Annotated[bool, typer.Option("--allow-synthetic", help="Take a series that says it is synthetic.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Segment vertebral bodies, discs and canal: DICOM SEG, NIfTI, a map of the uncertainty and a picture."""
    if series.is_dir() and out.resolve().is_relative_to(series.resolve()):
        raise typer.BadParameter("may not lie in SERIES: its next reader would read the results too", param_hint="--out")

    from spinepaint.worker.staging import why_not_out

    if reason := why_not_out(out):
        raise typer.BadParameter(reason, param_hint="--out")

    from spinepaint.app.checking import survive_reading
    from spinepaint.worker.device import find_device
    from spinepaint.worker.segment import SegmentSpec, segment_series

    settings = settings_with()
    caps = settings.caps
    survive_reading(series, series_uid, caps, allow_synthetic=allow_synthetic)
    spec = SegmentSpec(diffusion=not plain, steps=steps, samples=samples, seed=seed)
    with unwound_by_sigterm(), progress_bar() as tell:
        report = segment_series(
            series,
            out,
            spec,
            bundle=bundle,
            device=find_device(settings.device),
            series_uid=series_uid,
            caps=caps,
            allow_synthetic=allow_synthetic,
            progress=tell,
        )
    if json:
        print_json(report)
        return
    for name, found in report["structures"].items():
        typer.echo(f"{name:<16} {found['volume_ml']:8.2f} ml   uncertainty {found['mean_uncertainty']:.3f}")
    for warning in report["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"Written to {out}", err=True)
