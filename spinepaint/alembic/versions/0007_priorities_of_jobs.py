"""How urgent a job is, where it stands in its tenant's queue for that, and how urgent a key's jobs may be.

The columns keep their defaults: SQLite adds a column that is never null only with one, and to build the table anew would
delete what refers to it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SUBMITTED_S = {
    "sqlite": "strftime('%s', created_at) + CAST('0' || substr(created_at, 20) AS REAL)",
    "postgresql": "extract(epoch FROM created_at)",
}
"""Seconds since 1970 until a job was submitted, to the microsecond."""


def upgrade() -> None:
    op.add_column("jobs", sa.Column("priority", sa.String(length=16), nullable=False, server_default="normal"))
    op.add_column("jobs", sa.Column("queue_rank", sa.Double(), nullable=False, server_default="0"))
    op.execute(f"UPDATE jobs SET queue_rank = {SUBMITTED_S[op.get_bind().dialect.name]}")  # noqa: S608 - no input
    op.create_index("ix_jobs_state_tenant_queue_rank", "jobs", ["state", "tenant", "queue_rank"])
    op.drop_index("ix_jobs_state_tenant_created_at", "jobs")
    op.add_column("keys", sa.Column("max_priority", sa.String(length=16), nullable=True))


def downgrade() -> None:
    op.drop_column("keys", "max_priority")
    op.create_index("ix_jobs_state_tenant_created_at", "jobs", ["state", "tenant", "created_at"])
    op.drop_index("ix_jobs_state_tenant_queue_rank", "jobs")
    op.drop_column("jobs", "queue_rank")
    op.drop_column("jobs", "priority")
