"""What tells whose turn it is without reading the whole queue."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_jobs_state_tenant_created_at", "jobs", ["state", "tenant", "created_at"])
    op.create_index("ix_jobs_tenant_started_at", "jobs", ["tenant", "started_at"])


def downgrade() -> None:
    op.drop_index("ix_jobs_tenant_started_at", "jobs")
    op.drop_index("ix_jobs_state_tenant_created_at", "jobs")
