"""Warm-ups, and how far nodes are with them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "warmups",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("acceleration_id", sa.String(26), nullable=False),
        sa.Column("region_id", sa.String(26), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("volume", sa.String(63), nullable=False),
        sa.Column("region", sa.String(63), nullable=False),
        sa.Column("who", sa.String(128), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("selection", sa.JSON(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("progressed", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("end", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_warmups"),
    )
    for column in ("acceleration_id", "ended", "owner", "region_id"):
        op.create_index(f"ix_warmups_{column}", "warmups", [column])
    op.create_table(
        "warmup_nodes",
        sa.Column("warmup_id", sa.String(26), nullable=False),
        sa.Column("node_id", sa.String(26), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("files_total", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("bytes_total", sa.BigInteger(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("error", sa.String(1024), nullable=False),
        sa.PrimaryKeyConstraint("warmup_id", "node_id", name="pk_warmup_nodes"),
        sa.ForeignKeyConstraint(["warmup_id"], ["warmups.id"], name="fk_warmup_nodes_warmup_id"),
    )
    op.create_index("ix_warmup_nodes_node_id", "warmup_nodes", ["node_id"])
