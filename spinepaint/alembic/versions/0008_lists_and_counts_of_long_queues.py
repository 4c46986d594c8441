"""What lists a tenant's jobs of one state, and counts those that wait under a key, without looking at all that wait.

The index of a key has the tenant too, since a caller's statements ask for it: they are then answered by the index alone.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_jobs_tenant_state_created_at", "jobs", ["tenant", "state", "created_at"])
    op.create_index("ix_jobs_key_id_state_tenant", "jobs", ["key_id", "state", "tenant"])


def downgrade() -> None:
    op.drop_index("ix_jobs_key_id_state_tenant", "jobs")
    op.drop_index("ix_jobs_tenant_state_created_at", "jobs")
