"""`spinepaint migrate`: the database's schema."""

from typing import Annotated

import typer

from spinepaint.app.cli.environment import settings_with
from spinepaint.app.cli.output import EXIT_FAILED
from spinepaint.app.cli.service import Data


def migrate(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; say whether this version can work with it.")] = False,
    to: Annotated[str, typer.Option(metavar="REVISION", help="Where to; a step back loses what it cannot hold.")] = "head",
    data: Data = None,
) -> None:
    """Bring the database to this version's schema. Ends with 1 where that cannot be done or, with --check, is not done."""
    if check and to != "head":
        raise typer.BadParameter("is not changed by --check", param_hint="--to")
    url = settings_with(data_dir=data).database_url

    from sqlalchemy.exc import SQLAlchemyError

    from spinepaint.store.revisions import UnknownRevision, migrate_to, schema_state

    try:
        if check:
            state = schema_state(url)
            typer.echo(f"schema {state.current or 'none'}, this version needs {state.head}", err=True)
            if not state.ready:
                raise typer.Exit(EXIT_FAILED)
            return
        before, after = migrate_to(url, to)
    except UnknownRevision as error:
        message = f"this version knows no schema {error}. Migrate with the version that wrote it, or restore a backup"
        typer.echo(f"spinepaint: {message}", err=True)
        raise typer.Exit(EXIT_FAILED) from None
    except SQLAlchemyError as error:
        # Its text may quote the URL with the password.
        typer.echo(f"spinepaint: the database does not answer as it should ({type(error).__name__})", err=True)
        raise typer.Exit(EXIT_FAILED) from None
    typer.echo(f"schema {before.current or 'none'} -> {after.current}", err=True)
