"""Which trace a job belongs to, for the worker that goes on with it."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("trace_parent", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "trace_parent")
