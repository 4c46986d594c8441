"""`spinepaint check` and `spinepaint localise`: what is in a series."""

from pathlib import Path
from typing import Annotated, Any

import typer

from spinepaint.app.choices import Localiser
from spinepaint.app.cli.environment import settings_with
from spinepaint.app.cli.output import EXIT_REFUSED, print_json
from spinepaint.app.cli.paths import existing, existing_folder

Source = Annotated[Path, typer.Argument(parser=existing, metavar="SERIES", help="A folder, a zip or a multi-frame file.")]
SeriesUid = Annotated[str | None, typer.Option(help="Which series, where SERIES holds several.")]
AllowSynthetic = Annotated[bool, typer.Option("--allow-synthetic", help="Take a series that says it is synthetic.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def check(series: Source, series_uid: SeriesUid = None, allow_synthetic: AllowSynthetic = False, json: AsJson = False) -> None:
    """Say what would be accepted or refused, and why. Loads no model."""
    from spinepaint.app.checking import check_apart

    report = check_apart(series, series_uid, settings_with().caps, allow_synthetic=allow_synthetic)
    if json:
        print_json(report)
    else:
        _show(report)
    if not report["accepted"]:
        raise typer.Exit(EXIT_REFUSED)


def localise(
    series: Source,
    localiser: Annotated[Localiser, typer.Option(help="How discs are found.")] = Localiser.HEATMAP,
    bundle: Annotated[Path | None, typer.Option(parser=existing_folder, metavar="DIRECTORY", help="Weights to use.")] = None,
    series_uid: SeriesUid = None,
    allow_synthetic: AllowSynthetic = False,
    json: AsJson = False,
) -> None:
    """Find the lumbar discs: centres in patient LPS mm, with a confidence each."""
    from spinepaint.app.checking import survive_reading
    from spinepaint.worker.device import find_device
    from spinepaint.worker.localise import localise_series

    settings = settings_with()
    caps = settings.caps
    survive_reading(series, series_uid, caps, allow_synthetic=allow_synthetic)
    found = localise_series(
        series,
        localiser=localiser.value,
        bundle=bundle,
        device=find_device(settings.device),
        series_uid=series_uid,
        caps=caps,
        allow_synthetic=allow_synthetic,
    )
    if json:
        print_json(found)
        return
    for fsu, centre in found["disc_centres_lps_mm"].items():
        point = ", ".join(f"{value:.1f}" for value in centre)
        typer.echo(f"{fsu}  ({point}) mm  confidence {found['confidence'][fsu]:.2f}")
    for warning in found["warnings"]:
        typer.echo(f"warning: {warning}", err=True)


def _show(report: dict[str, Any]) -> None:
    for item in report["series"]:
        mark = "*" if item["series_uid"] == report["chosen_series_uid"] else " "
        line = f"{mark} {item['verdict']:<8} {item['series_uid']}  {item['instances']} instances  {item['reason'] or ''}"
        typer.echo(line.rstrip())
    for item in report["files"]:
        # What is against a series as a whole has been said once, in its line.
        if item["verdict"] == "refused" and not item["reason"].startswith("its series: "):
            typer.echo(f"  refused  {item['file']}: {item['reason']}")
    for warning in report["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo("accepted" if report["accepted"] else "refused")
