"""Runs the migrations on the connection that `spinepaint.store.migrate` hands over, inside its transaction."""

from alembic import context

from spinepaint.store.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite can roll a CREATE TABLE back too, once the driver leaves BEGIN to us.
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
