"""DICOM objects that can be found, and where results are owed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXTS = (
    "patient_id",
    "patient_name",
    "patient_birth_date",
    "patient_sex",
    "study_date",
    "study_time",
    "accession_number",
    "referring_physician_name",
    "study_id",
    "study_description",
    "modality",
)


def upgrade() -> None:
    op.create_table(
        "dicom_series",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("source_id", sa.String(length=64), nullable=True),
        sa.Column("job_id", sa.String(length=64), nullable=True),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("series_uid", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        *(sa.Column(name, sa.String(length=255), nullable=True) for name in TEXTS),
        sa.Column("series_number", sa.Integer(), nullable=True),
        sa.Column("series_description", sa.String(length=255), nullable=True),
        sa.Column("performed_date", sa.String(length=255), nullable=True),
        sa.Column("performed_time", sa.String(length=255), nullable=True),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_dicom_series_job_id_jobs", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["source_id"], ["series.id"], name="fk_dicom_series_source_id_series", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_dicom_series"),
    )
    for name in ("source_id", "job_id", "study_uid", "series_uid", "patient_id", "study_date"):
        op.create_index(f"ix_dicom_series_{name}", "dicom_series", [name])

    op.create_table(
        "dicom_instances",
        sa.Column("series", sa.Integer(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=False),
        sa.Column("instance_number", sa.Integer(), nullable=True),
        sa.Column("artifact_key", sa.String(length=512), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("layout", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["series"], ["dicom_series.id"], name="fk_dicom_instances_series_dicom_series", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("series", "sop_instance_uid", name="pk_dicom_instances"),
    )
    op.create_index("ix_dicom_instances_sop_instance_uid", "dicom_instances", ["sop_instance_uid"])

    op.create_table(
        "dicom_deliveries",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("problem", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_dicom_deliveries_job_id_jobs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "destination", name="pk_dicom_deliveries"),
    )
    op.create_index("ix_dicom_deliveries_state_due_at", "dicom_deliveries", ["state", "due_at"])


def downgrade() -> None:
    op.drop_table("dicom_deliveries")
    op.drop_table("dicom_instances")
    op.drop_table("dicom_series")
