"""What nodes have of kept versions."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "kept_versions",
        sa.Column("acceleration_id", sa.String(26), nullable=False),
        sa.Column("node_id", sa.String(26), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("bytes_total", sa.BigInteger(), nullable=False),
        sa.Column("lost_files", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("acceleration_id", "node_id", "version", name="pk_kept_versions"),
        sa.ForeignKeyConstraint(["acceleration_id"], ["accelerations.id"], name="fk_kept_versions_acceleration_id"),
    )
