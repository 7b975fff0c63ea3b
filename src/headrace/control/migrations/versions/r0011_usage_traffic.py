"""Bytes that nodes moved, by the hour, and what they told last."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_COUNTS = ("origin_bytes", "served_bytes", "opened_bytes")


def upgrade() -> None:
    for name in _COUNTS:
        op.add_column("usage_hours", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "usage_told",
        sa.Column("node_id", sa.String(26), nullable=False),
        sa.Column("epoch", sa.String(32), nullable=False),
        sa.Column("acceleration_id", sa.String(26), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        sa.PrimaryKeyConstraint("node_id", "epoch", "acceleration_id", name="pk_usage_told"),
    )
