"""Comparisons of origins with what is current."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "comparisons",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("acceleration_id", sa.String(26), nullable=False),
        sa.Column("region_id", sa.String(26), nullable=False),
        sa.Column("who", sa.String(128), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("lease", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.String(26), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("found", sa.JSON(), nullable=True),
        sa.Column("error", sa.String(1024), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_comparisons"),
    )
    for column in ("acceleration_id", "ended", "region_id"):
        op.create_index(f"ix_comparisons_{column}", "comparisons", [column])
