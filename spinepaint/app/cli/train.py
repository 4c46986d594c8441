"""`spinepaint phantom` and `spinepaint train`: offline work."""

import json
import random
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from spinepaint.app.cli.output import progress_bar
from spinepaint.app.cli.signals import unwound_by_sigterm
from spinepaint.imaging.vocabulary import SEVERITIES, Fsu, Pathology


class Network(StrEnum):
    """What can be trained."""

    AUTOENCODER = "autoencoder"
    INPAINTER = "inpainter"
    LOCALISER = "localiser"
    SEGMENTER = "segmenter"
    BUNDLE = "bundle"


class LocaliserKind(StrEnum):
    """Which localiser."""

    HEATMAP = "heatmap"
    RL = "rl"


class Contrast(StrEnum):
    """Which series a phantom gets."""

    T2 = "T2"
    T1 = "T1"
    BOTH = "both"


class DataSet(StrEnum):
    """Layouts of annotated data that can be read."""

    RSNA = "rsna"
    SPIDER = "spider"
    TABLE = "table"


def phantom(
    out: Annotated[Path, typer.Argument(file_okay=False, help="A new or empty folder.")],
    n: Annotated[int, typer.Option("--n", min=1, max=100_000, help="How many spines.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The first one's seed; each next takes the next.")] = 0,
    pathology: Annotated[list[Pathology] | None, typer.Option(help="May be repeated; healthy when left out.")] = None,
    weighting: Annotated[Contrast, typer.Option(help="Which series of each spine.")] = Contrast.T2,
    seg: Annotated[bool, typer.Option("--seg", help="The segmentation as DICOM SEG too.")] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; the output is the same.")] = 2,
) -> None:
    """Write sagittal series of invented spines, their exact segmentation, and what is true of each in truth.json.

    Each asked pathology comes once in every spine, at a level and severity drawn from the seed. They appear once all
    of them are complete.
    """
    if out.exists() and any(out.iterdir()):
        raise typer.BadParameter(f"{out} is not empty", param_hint="OUT")

    from spinepaint.training.phantom import Weighting
    from spinepaint.training.phantom.examinations import LEGEND, Examination, write_examinations
    from spinepaint.worker.outputs import publish, staging

    asked = (Weighting.T2, Weighting.T1) if weighting is Contrast.BOTH else (Weighting(weighting.value),)
    items = [Examination(number, _lesions(pathology or [], number), asked, seg) for number in range(seed, seed + n)]
    truth = {}
    with unwound_by_sigterm(), staging(out) as folder, progress_bar() as report:
        for name, found in write_examinations(items, folder, workers):
            truth[name] = found
            report(f"{len(truth)} of {n} spines", len(truth) / n)
        (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")
        (folder / "segmentation" / "legend.json").write_text(json.dumps(LEGEND, indent=1) + "\n")
        publish(folder, out)
    typer.echo(f"{n} spines in {out}", err=True)


def _lesions(pathologies: list[Pathology], seed: int) -> dict[str, tuple[str, str]]:
    """Each pathology at a level of its own: FSU to (pathology, severity)."""
    draw = random.Random(seed)  # noqa: S311 - reproducible, not secret
    levels = draw.sample(list(Fsu), len(set(pathologies)))
    return {
        fsu.value: (chosen.value, draw.choice(SEVERITIES[chosen]).value)
        for fsu, chosen in zip(levels, dict.fromkeys(pathologies), strict=True)
    }


def train(
    network: Annotated[Network, typer.Argument(help="What to train.")],
    config: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="A YAML file.")],
    kind: Annotated[LocaliserKind, typer.Option(help="Which localiser to train.")] = LocaliserKind.HEATMAP,
) -> None:
    """Fit one of the networks, or join fitted ones into a bundle."""
    if kind is not LocaliserKind.HEATMAP and network is not Network.LOCALISER:
        raise typer.BadParameter(f"only a localiser has kinds, not {network.value}", param_hint="--kind")
    from spinepaint.training.cli import train as fit

    fit("rl-localiser" if kind is LocaliserKind.RL else network.value, config)


def manifest(
    layout: Annotated[DataSet, typer.Argument(help="rsna: RSNA 2024 lumbar; spider: SPIDER; table: a CSV of your own.")],
    source: Annotated[Path, typer.Argument(exists=True, help="The data set's folder, or the CSV.")],
    out: Annotated[Path, typer.Argument(dir_okay=False, help="The manifest to write (JSON lines).")],
) -> None:
    """Bring an annotated data set to the manifest that `train inpainter` reads, split by patient."""
    from spinepaint.training.datasets import rsna_cases, spider_cases, table_cases, write_manifest

    cases = {DataSet.RSNA: rsna_cases, DataSet.SPIDER: spider_cases, DataSet.TABLE: table_cases}[layout](source)
    write_manifest(cases, out)
    held_out = sum(case.split == "held_out" for case in cases)
    typer.echo(f"{len(cases)} cases, {held_out} of them held out, in {out}", err=True)
