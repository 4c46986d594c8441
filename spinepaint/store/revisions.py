"""Where a database stands in the history of migrations, and how it is brought elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from spinepaint.store.database import MIGRATION_LOCK, SCRIPTS, open_engine


class UnknownRevision(Exception):
    """A revision that is not of this version's history: a newer version has migrated the database, or it is misspelt."""


@dataclass(frozen=True)
class SchemaState:
    """The revision of a database, None where it is empty, and the newest that this version knows."""

    current: str | None
    head: str

    @property
    def ready(self) -> bool:
        """Whether this version can work with the database."""
        return self.current == self.head


def schema_state(database_url: str) -> SchemaState:
    """Read where the database stands; changes nothing. Raises sqlalchemy.exc.SQLAlchemyError where it does not answer."""
    engine = open_engine(database_url)
    try:
        with engine.connect().execution_options(reading=True) as connection:
            return _state(connection)
    finally:
        engine.dispose()


def migrate_to(database_url: str, revision: str = "head") -> tuple[SchemaState, SchemaState]:
    """Bring the database to a revision, up or down, in one transaction; the states before and after.

    Down loses what only the newer schema can hold. Processes that migrate at once wait for one another. Raises UnknownRevision,
    before anything is changed.
    """
    with _locked(database_url) as (connection, config):
        before = _state(connection)
        scripts = ScriptDirectory.from_config(config)
        known = {script.revision for script in scripts.walk_revisions()}
        wanted = before.head if revision == "head" else revision
        for name in (before.current, wanted):
            if name is not None and name not in known:
                raise UnknownRevision(name)
        passed = {script.revision for script in scripts.iterate_revisions(before.current, "base")} if before.current else set()
        (command.downgrade if wanted in passed else command.upgrade)(config, wanted)
        return before, _state(connection)


@contextmanager
def _locked(database_url: str) -> Iterator[tuple[Connection, Config]]:
    """A transaction on the database that no other migration shares, and the scripts' configuration with it."""
    engine = open_engine(database_url)
    config = _config()
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            config.attributes["connection"] = connection
            yield connection, config
    finally:
        engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config


def _state(connection: Connection) -> SchemaState:
    head = ScriptDirectory.from_config(_config()).get_current_head()
    return SchemaState(MigrationContext.configure(connection).get_current_revision(), str(head))
