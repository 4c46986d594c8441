"""`spinepaint serve`, `worker` and `demo`: the service and its parts."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from spinepaint.app.addresses import is_loopback
from spinepaint.app.cli.environment import lacks_ledger, settings_with
from spinepaint.app.cli.missing import why_no_worker
from spinepaint.app.cli.output import EXIT_FAILED, print_json, progress_bar
from spinepaint.app.cli.signals import unwound_by_sigterm

if TYPE_CHECKING:
    from spinepaint.settings import Settings
    from spinepaint.worker.runner import PipelineFunction

Data = Annotated[Path | None, typer.Option(help="Folder of the database and the artifacts.", file_okay=False)]
Pipeline = Annotated[str | None, typer.Option(hidden=True, help="MODULE:FUNCTION to run in place of the pipeline.")]


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 by default.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 8000 by default, 0 for a free one.", min=0, max=65535)] = None,
    data: Data = None,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="The gateway alone; workers run elsewhere.")] = False,
    pipeline: Pipeline = None,
) -> None:
    """Run the service on this machine: the HTTP gateway, one worker and a private broker."""
    settings = settings_with(host=host, port=port, data_dir=data)
    if no_worker and not settings.broker_url:
        raise typer.BadParameter("set SPINEPAINT_BROKER_URL to the Redis or Valkey of the workers", param_hint="--no-worker")
    if not no_worker and (reason := why_no_worker()):
        typer.echo(f"spinepaint: {reason}", err=True)
        raise typer.Exit(EXIT_FAILED)
    if not is_loopback(settings.host) and lacks_ledger(settings.database_url):
        raise _no_keys(settings.host)
    _log_to_stderr(settings)

    from spinepaint.app import serve as service

    try:
        service.serve(settings, pipeline, with_worker=not no_worker)
    except service.NoKeys:
        raise _no_keys(settings.host) from None
    except service.DataFolderInUse:
        typer.echo(f"spinepaint: another service runs on {settings.data_dir}", err=True)
        raise typer.Exit(EXIT_FAILED) from None


def _no_keys(host: str) -> typer.BadParameter:
    message = f"{host} can be reached by others, and no API key is in force: `spinepaint keys create` makes one, for the same "
    return typer.BadParameter(message + "database; or serve on 127.0.0.1", param_hint="--host")


def worker(data: Data = None, pipeline: Pipeline = None) -> None:
    """Run jobs from the queue, until SIGTERM or Ctrl-C."""
    settings = settings_with(data_dir=data)
    if not settings.broker_url:
        raise typer.BadParameter("set SPINEPAINT_BROKER_URL to the Redis or Valkey of the service")
    _log_to_stderr(settings)

    from spinepaint.app.open_files import allow_open_files
    from spinepaint.worker.celery_app import start_worker

    allow_open_files()

    start_worker(settings, run=None if pipeline is None else _imported(pipeline))


def demo(
    out: Annotated[Path, typer.Option(help="Where the results go; those of an earlier demo are replaced.")] = Path("out/demo"),
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    pipeline: Pipeline = None,
) -> None:
    """Put an invented series through the whole service, over HTTP."""
    from spinepaint.app.demo import demonstrate

    with unwound_by_sigterm(), progress_bar() as report:
        result = demonstrate(out, report, pipeline)
    if json:
        print_json(result)
    else:
        typer.echo(f"Look at {out / 'preview.png'}", err=True)


def _imported(path: str) -> "PipelineFunction":
    module, _, function = path.partition(":")
    return cast("PipelineFunction", getattr(importlib.import_module(module), function))


def _log_to_stderr(settings: "Settings") -> None:
    from spinepaint.logs import start_logging

    start_logging(settings.log_format)
