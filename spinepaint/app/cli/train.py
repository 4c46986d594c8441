"""`spinepaint phantom` and `spinepaint train`: offline work."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from spinepaint.imaging.vocabulary import Pathology


class Network(StrEnum):
    """What can be trained."""

    AUTOENCODER = "autoencoder"
    INPAINTER = "inpainter"
    LOCALISER = "localiser"


def phantom(
    out: Annotated[Path, typer.Argument(file_okay=False, help="A new or empty folder.")],
    n: Annotated[int, typer.Option("--n", min=1, max=100_000, help="How many series.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The first one's seed; each next takes the next.")] = 0,
    pathology: Annotated[list[Pathology] | None, typer.Option(help="May be repeated; healthy when left out.")] = None,
) -> None:
    """Write sagittal T2 series of invented spines."""
    if out.exists() and any(out.iterdir()):
        raise typer.BadParameter(f"{out} is not empty", param_hint="OUT")

    from spinepaint.training.phantom import make_phantom, write_series

    for number in range(n):
        folder = out / f"phantom-{seed + number:06d}"
        write_series(make_phantom(seed + number, pathology or []), folder, seed=seed + number)
    typer.echo(f"{n} series in {out}", err=True)


def train(
    network: Annotated[Network, typer.Argument(help="What to train.")],
    config: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="A YAML file.")],
) -> None:
    """Fit one of the networks."""
    from spinepaint.training.cli import train as fit

    fit(network.value, config)
