"""Usage by the hour."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "usage_hours",
        sa.Column("id", sa.String(48), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.Column("acceleration_id", sa.String(26), nullable=False),
        sa.Column("volume", sa.String(63), nullable=False),
        sa.Column("region", sa.String(63), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("kib_seconds", sa.BigInteger(), nullable=False),
        sa.Column("bytes_max", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_usage_hours"),
    )
    op.create_index("ix_usage_hours_owner_id", "usage_hours", ["owner", "id"])
    op.create_table(
        "usage_clock",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("counted", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_usage_clock"),
    )
