"""Tasks, what they mount, and their uses of accelerations."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("region_id", sa.String(26), nullable=False),
        sa.Column("node_id", sa.String(26), nullable=True),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("lease", sa.Integer(), nullable=False),
        sa.Column("lasts_seconds", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("end", sa.String(16), nullable=False),
        sa.Column("because", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
    )
    for column in ("ended", "lease_until", "node_id", "owner", "region_id"):
        op.create_index(f"ix_tasks_{column}", "tasks", [column])
    op.create_table(
        "task_mounts",
        sa.Column("task_id", sa.String(26), nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("acceleration_id", sa.String(26), nullable=False),
        sa.Column("volume", sa.String(63), nullable=False),
        sa.Column("path", sa.String(1024), nullable=False),
        sa.Column("wanted", sa.String(63), nullable=True),
        sa.Column("follow", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("task_id", "ordinal", name="pk_task_mounts"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_task_mounts_task_id"),
    )
    op.create_table(
        "uses",
        sa.Column("task_id", sa.String(26), nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("acceleration_id", sa.String(26), nullable=False),
        sa.Column("holder", sa.String(160), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("follow", sa.Boolean(), nullable=False),
        sa.Column("lost", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("task_id", "ordinal", name="pk_uses"),
    )
    op.create_index("ix_uses_acceleration_id", "uses", ["acceleration_id"])
