"""When a DICOM series was last stored, and the ideographic and phonetic groups of names."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NAMES = {"patient_name": "00100010", "referring_physician_name": "00080090"}
GROUPS = ("Ideographic", "Phonetic")


def upgrade() -> None:
    # Not by a copy of the table: dropping the old one would delete the instances that refer to it.
    op.execute("ALTER TABLE dicom_series RENAME COLUMN created_at TO stored_at")
    op.create_index("ix_dicom_series_stored_at", "dicom_series", ["stored_at"])
    columns = [f"{name}_{group.lower()}" for name in NAMES for group in GROUPS]
    for column in columns:
        op.add_column("dicom_series", sa.Column(column, sa.String(length=255), nullable=True))

    texts = [sa.column(column, sa.String) for column in columns]
    series = sa.table("dicom_series", sa.column("id", sa.Integer), sa.column("attributes", sa.JSON), *texts)
    connection = op.get_bind()
    for row in connection.execute(sa.select(series.c.id, series.c.attributes)).all():
        found = {}
        for name, tag in NAMES.items():
            value = (row.attributes.get(tag, {}).get("Value") or [None])[0]
            for group in GROUPS:
                if isinstance(value, dict) and value.get(group):
                    text = str(value[group]).replace("\0", "").strip()[:255]
                    found[f"{name}_{group.lower()}"] = text.casefold().rstrip("^")
        if found:
            connection.execute(sa.update(series).where(series.c.id == row.id).values(**found))


def downgrade() -> None:
    for name in NAMES:
        for group in GROUPS:
            op.drop_column("dicom_series", f"{name}_{group.lower()}")
    op.drop_index("ix_dicom_series_stored_at", "dicom_series")
    op.execute("ALTER TABLE dicom_series RENAME COLUMN stored_at TO created_at")
