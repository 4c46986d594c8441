"""Whom a webhook goes to, which sender has a delivery, who deletes what at present, and what long ledgers are asked for often.

Only webhooks that are still owed are told their receiver: nobody asks for the others'.
"""

from urllib.parse import urlsplit

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

READ_UID = {"sqlite": "substr(json_extract(spec, '$.series_uid'), 1, 64)", "postgresql": "left(spec ->> 'series_uid', 64)"}
"""What a job's spec says of the series that it reads."""
PORTS = {"https": 443, "http": 80}


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("receiver", sa.String(length=300), nullable=False, server_default=""))
    _tell_receivers(op.get_bind())
    op.create_index("ix_deliveries_state_receiver_due_at", "deliveries", ["state", "receiver", "due_at"])

    op.add_column("dicom_deliveries", sa.Column("token", sa.Integer(), nullable=False, server_default="0"))

    op.add_column("discards", sa.Column("take_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE discards SET take_at = due_at")
    op.drop_index("ix_discards_due_at", "discards")
    with op.batch_alter_table("discards") as discards:
        discards.alter_column("take_at", existing_type=sa.DateTime(timezone=True), nullable=False)
    op.create_index("ix_discards_take_at", "discards", ["take_at"])

    op.add_column("jobs", sa.Column("series_uid", sa.String(length=64), nullable=True))
    op.execute(f"UPDATE jobs SET series_uid = {READ_UID[op.get_bind().dialect.name]}")  # noqa: S608 - no input
    op.create_index("ix_jobs_series_uid", "jobs", ["series_uid"])

    op.create_index("ix_series_created_at", "series", ["created_at"])
    op.create_index("ix_batches_created_at", "batches", ["created_at"])
    op.create_index("ix_batches_tenant_created_at", "batches", ["tenant", "created_at"])


def downgrade() -> None:
    op.drop_index("ix_batches_tenant_created_at", "batches")
    op.drop_index("ix_batches_created_at", "batches")
    op.drop_index("ix_series_created_at", "series")
    op.drop_index("ix_jobs_series_uid", "jobs")
    op.drop_column("jobs", "series_uid")
    op.drop_index("ix_discards_take_at", "discards")
    op.drop_column("discards", "take_at")
    op.create_index("ix_discards_due_at", "discards", ["due_at"])
    op.drop_column("dicom_deliveries", "token")
    op.drop_index("ix_deliveries_state_receiver_due_at", "deliveries")
    op.drop_column("deliveries", "receiver")


def _tell_receivers(connection: sa.Connection) -> None:
    names = ("id", "url", "state", "receiver")
    deliveries = sa.table("deliveries", *(sa.column(name, sa.String) for name in names))
    owed = sa.select(deliveries.c.id, deliveries.c.url).where(deliveries.c.state == "owed")
    for row in connection.execute(owed).all():
        values = {"receiver": _receiver(row.url)}
        connection.execute(sa.update(deliveries).where(deliveries.c.id == row.id).values(**values))


def _receiver(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        return ""
    return f"{(parts.hostname or '').removesuffix('.')}:{port}"[-300:]
