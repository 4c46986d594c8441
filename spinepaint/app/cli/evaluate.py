"""`spinepaint evaluate`: what a bundle's edits are worth."""

from pathlib import Path
from typing import Annotated

import typer

from spinepaint.app.cli.output import print_json
from spinepaint.imaging.errors import Refusal


def evaluate(
    out: Annotated[Path, typer.Option(file_okay=False, help="Where the figures, the report and all cases go.")],
    bundle: Annotated[
        Path | None, typer.Option(file_okay=False, help="A bundle's folder; the shipped one when left out.")
    ] = None,
    phantoms: Annotated[int, typer.Option(min=2, help="Held-out phantoms to paint, each with every condition.")] = 50,
    samples: Annotated[int, typer.Option(min=1, help="Samples of each phantom and condition.")] = 1,
    methods: Annotated[
        str, typer.Option(help="Commas between; the first is the one served. Add :blind to hide the donor from the network.")
    ] = "weighted,masked,repaint,differential",
    parts: Annotated[
        str, typer.Option(help="Commas between.")
    ] = "tables,presence,blending,memorisation,downstream,real,reconstruction",
    real: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="A folder of SPIDER's slices.")] = None,
    steps: Annotated[int | None, typer.Option(min=2, help="Of the solver; the bundle's own when left out.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    limit: Annotated[int | None, typer.Option(min=2, help="At most so many of everything: a quick look.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures.")] = False,
) -> None:
    """Measure a bundle on held-out phantoms and real slices: evaluation.json and report.html in OUT.

    Resumable: the same command goes on where it stopped.
    """
    from spinepaint.app.bundle import bundle_folder
    from spinepaint.models.bundle import BundleError
    from spinepaint.settings import Settings
    from spinepaint.training.evaluation.material import Evaluation
    from spinepaint.training.evaluation.run import evaluate as run

    try:
        settings = Evaluation(
            bundle=bundle or bundle_folder(Settings()),
            out=out,
            phantoms=phantoms,
            samples=samples,
            methods=tuple(methods.split(",")),
            parts=tuple(parts.split(",")),
            real=real,
            steps=steps,
            seed=seed,
            limit=limit,
            device=device,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        figures = run(settings)
    except BundleError as error:
        raise Refusal("bad-bundle", "The bundle cannot be used.", str(error)) from error
    if as_json:
        print_json(figures)
    else:
        typer.echo(f"{out / 'report.html'}", err=True)
