"""`spinepaint keys` and `spinepaint audit`: who may use the service, and who did."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spinepaint.app.cli.environment import lacks_ledger, settings_with
from spinepaint.app.cli.output import EXIT_FAILED, print_json
from spinepaint.app.cli.service import Data

if TYPE_CHECKING:
    from spinepaint.store.ledger import Ledger
    from spinepaint.store.models import ApiKey

app = typer.Typer(help="API keys of the service: who may use it, for what, until when.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@app.command("create")
def create(
    name: Annotated[str, typer.Option(help="What it is for; no person's name, it is shown in lists.")],
    tenant: Annotated[str, typer.Option(help="Whose data it opens; keys of one tenant share them.")] = "",
    scope: Annotated[list[str] | None, typer.Option(help="read, write, admin or metrics; read and write by default.")] = None,
    expires: Annotated[str | None, typer.Option(metavar="90d|DATE", help="When it ends: 12h, 90d, 8w or 2027-01-31.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second; the deployment's by default.", min=0.001, max=1e4)
    ] = None,
    burst: Annotated[int | None, typer.Option(help="Requests at once; the deployment's by default.", min=1, max=10**6)] = None,
    max_queued_jobs: Annotated[int | None, typer.Option(help="Jobs of this key that may wait.", min=1)] = None,
    max_priority: Annotated[
        str | None, typer.Option(help="The highest priority of its jobs: low, normal or high; any by default.")
    ] = None,
    data: Data = None,
    json: AsJson = False,
) -> None:
    """Make a key, and print it: it cannot be shown again."""
    from spinepaint.store.keys import DEFAULT_SCOPES, Scope
    from spinepaint.store.priorities import Priority

    if tenant and not _NAMES.fullmatch(tenant):
        raise typer.BadParameter(
            "letters, digits, ., _ and -, at most 63, beginning with a letter or digit", param_hint="--tenant"
        )
    try:
        scopes = [Scope(one) for one in scope] if scope else DEFAULT_SCOPES
    except ValueError:
        raise typer.BadParameter(f"one of {', '.join(Scope)}", param_hint="--scope") from None
    try:
        most = None if max_priority is None else Priority(max_priority)
    except ValueError:
        raise typer.BadParameter(f"one of {', '.join(Priority)}", param_hint="--max-priority") from None
    limits: dict[str, Any] = {"rate_per_s": rate, "burst": burst, "max_queued_jobs": max_queued_jobs, "max_priority": most}
    with _ledger(data, make=True) as ledger:
        row, key = ledger.create_key(name[:255], tenant=tenant, scopes=scopes, expires_at=_moment(expires), **limits)
        ledger.record_audit(tenant=tenant, key_id=row.id, action="keys create", status=0)
    if json:
        print_json(_shown(row) | {"key": key})
        return
    typer.echo(key)
    typer.echo(f"Key {row.id} of {_tenant(row)}: {', '.join(row.scopes)}. Keep it; it cannot be shown again.", err=True)


@app.command("list")
def list_keys(data: Data = None, json: AsJson = False) -> None:
    """List every key that was made, with what it may do and when it was last used; never the key itself."""
    with _ledger(data) as ledger:
        rows = ledger.list_keys()
    if json:
        print_json({"keys": [_shown(row) for row in rows]})
        return
    for row in rows:
        used = f"used {row.last_used_at:%Y-%m-%d %H:%M}" if row.last_used_at else "never used"
        typer.echo(f"{row.id}  {_state(row):<8} {_tenant(row)}  {','.join(row.scopes)}  {used}  {row.name}")


@app.command("revoke")
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")], data: Data = None) -> None:
    """End a key at once, at every gateway. It is not deleted: the audit trail refers to it."""
    with _ledger(data) as ledger:
        row = ledger.get_key(key_id)
        if row is None or not ledger.revoke_key(key_id):
            typer.echo("spinepaint: no key of that id is in force; give the id, not the key", err=True)
            raise typer.Exit(EXIT_FAILED)
        ledger.record_audit(tenant=row.tenant, key_id=key_id, action="keys revoke", status=0)
    typer.echo(f"revoked {key_id}", err=True)


def audit(
    key: Annotated[str | None, typer.Option(help="Only what was done with the key of this id.")] = None,
    series_sha256: Annotated[str | None, typer.Option(help="Only what was done with a series of this content.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="90d|DATE", help="Only what is younger: 12h, 90d, 8w or 2027-01-31.")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1)] = 1000,
    prune: Annotated[bool, typer.Option("--prune", help="First remove what is older than SPINEPAINT_AUDIT_DAYS.")] = False,
    data: Data = None,
    json: AsJson = False,
) -> None:
    """Show who did what and when, of all tenants, newest first."""
    from spinepaint.store.audit import AuditQuery

    with _ledger(data) as ledger:
        if prune:
            days = settings_with(data_dir=data).audit_days
            typer.echo(f"removed {ledger.prune_audit(ledger.now() - timedelta(days=days))} entries", err=True)
        entries = ledger.list_audit(AuditQuery(key, series_sha256, _moment(since, ahead=False)), limit)
    columns = ("id", "at", "tenant", "key_id", "action", "status", "series_sha256", "job_id", "batch_id")
    found = [{name: getattr(entry, name) for name in columns} | {"at": entry.at.isoformat()} for entry in entries]
    if json:
        print_json({"entries": found})
        return
    for entry in found:
        what = " ".join(f"{name}={entry[name]}" for name in ("series_sha256", "job_id", "batch_id") if entry[name])
        typer.echo(f"{entry['at'][:19]}Z  {entry['key_id'] or '-'}  {entry['status']}  {entry['action']}  {what}".rstrip())


@contextmanager
def _ledger(data: Any, *, make: bool = False) -> "Iterator[Ledger]":
    """The ledger of the settings, with `make` migrated first where that is done at a start; else it has to be there."""
    from sqlalchemy.exc import SQLAlchemyError

    from spinepaint.store.database import migrate
    from spinepaint.store.ledger import Ledger

    settings = settings_with(data_dir=data)
    if not make and lacks_ledger(settings.database_url):
        typer.echo(f"spinepaint: there is no database in {settings.data_dir}", err=True)
        raise typer.Exit(EXIT_FAILED)
    try:
        if make and settings.migrate_at_start:
            migrate(settings.database_url)
        ledger = Ledger(settings.database_url)
        try:
            yield ledger
        finally:
            ledger.close()
    except SQLAlchemyError as error:
        # Its text may quote the URL with the password.
        message = f"the database does not answer as it should ({type(error).__name__}). Perhaps `spinepaint migrate` comes first"
        typer.echo(f"spinepaint: {message}", err=True)
        raise typer.Exit(EXIT_FAILED) from None


def _moment(text: str | None, *, ahead: bool = True) -> datetime | None:
    """A day, or so long from now (or ago), as a moment in UTC. Raises BadParameter for another text, or a day that is over."""
    if text is None:
        return None
    now = datetime.now(UTC)
    try:
        if found := re.fullmatch(r"([0-9]{1,5})([hdw])", text):
            span = int(found[1]) * _UNITS[found[2]]
            moment = now + span if ahead else now - span
        else:
            moment = datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text} is neither a time such as 90d nor a date such as 2027-01-31") from None
    if ahead and moment <= now:
        raise typer.BadParameter(f"{text} is over already", param_hint="--expires")
    return moment


def _state(row: "ApiKey") -> str:
    from spinepaint.store.keys import in_force

    return "revoked" if row.revoked_at else "in force" if in_force(row) else "expired"


def _tenant(row: "ApiKey") -> str:
    return row.tenant or "(default tenant)"


def _shown(row: "ApiKey") -> dict[str, Any]:
    moments = {name: getattr(row, name) for name in ("created_at", "expires_at", "revoked_at", "last_used_at")}
    limits = ("rate_per_s", "burst", "max_queued_jobs", "max_priority")
    plain = {name: getattr(row, name) for name in ("id", "name", "tenant", "scopes", *limits)}
    return plain | {"state": _state(row)} | {name: at and at.isoformat() for name, at in moments.items()}
