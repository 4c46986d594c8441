"""Whose a key is, what it may do and how often; the key of a job; the audit trail.

Keys of before are revoked: they have no id in them by which they could be found.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MORE = ("rate_per_s", "burst", "max_queued_jobs", "expires_at", "last_used_at")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("key_id", sa.String(length=64), nullable=True))

    op.execute("UPDATE keys SET revoked_at = created_at WHERE revoked_at IS NULL")
    with op.batch_alter_table("keys") as keys:
        keys.add_column(sa.Column("tenant", sa.String(length=64), nullable=False, server_default=""))
        keys.add_column(sa.Column("scopes", sa.JSON(), nullable=False, server_default="[]"))
        keys.add_column(sa.Column("rate_per_s", sa.Double(), nullable=True))
        keys.add_column(sa.Column("burst", sa.Integer(), nullable=True))
        keys.add_column(sa.Column("max_queued_jobs", sa.Integer(), nullable=True))
        keys.add_column(sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
        keys.add_column(sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("keys") as keys:
        keys.alter_column("tenant", server_default=None)
        keys.alter_column("scopes", server_default=None)

    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=True),
        sa.Column("action", sa.String(length=255), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("series_sha256", sa.String(length=64), nullable=True),
        sa.Column("job_id", sa.String(length=64), nullable=True),
        sa.Column("batch_id", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_index("ix_audit_series_sha256", "audit", ["series_sha256"])


def downgrade() -> None:
    op.drop_table("audit")
    with op.batch_alter_table("keys") as keys:
        for column in ("tenant", "scopes", *MORE):
            keys.drop_column(column)
    op.drop_column("jobs", "key_id")
