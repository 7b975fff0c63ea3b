"""Accelerations, versions, snapshots and what nodes hold."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accelerations",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("volume_id", sa.String(26), nullable=False),
        sa.Column("region_id", sa.String(26), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("condition", sa.String(32), nullable=False),
        sa.Column("reason", sa.JSON(), nullable=False),
        sa.Column("selection", sa.JSON(), nullable=False),
        sa.Column("placement", sa.JSON(), nullable=False),
        sa.Column("current", sa.Integer(), nullable=True),
        sa.Column("pulling", sa.Integer(), nullable=True),
        sa.Column("numbered", sa.Integer(), nullable=False),
        sa.Column("listing", sa.Integer(), nullable=False),
        sa.Column("lister", sa.String(26), nullable=True),
        sa.Column("lister_until", sa.BigInteger(), nullable=True),
        sa.Column("began", sa.BigInteger(), nullable=False),
        sa.Column("progressed", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("expire_seconds", sa.Integer(), nullable=False),
        sa.Column("release_seconds", sa.Integer(), nullable=False),
        sa.Column("keep_versions", sa.Integer(), nullable=False),
        sa.Column("at_once", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_accelerations"),
        sa.UniqueConstraint("volume_id", "region_id", name="uq_accelerations_volume_id_region_id"),
    )
    for column in ("owner", "region_id", "state", "used", "volume_id"):
        op.create_index(f"ix_accelerations_{column}", "accelerations", [column])
    op.create_table(
        "versions",
        sa.Column("acceleration_id", sa.String(26), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("label", sa.String(63), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("skipped", sa.BigInteger(), nullable=False),
        sa.Column("pulled", sa.Boolean(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("acceleration_id", "number", name="pk_versions"),
        sa.ForeignKeyConstraint(["acceleration_id"], ["accelerations.id"], name="fk_versions_acceleration_id"),
    )
    op.create_index("ix_versions_digest", "versions", ["digest"])
    op.create_table(
        "snapshot_parts",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("part", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.Column("acceleration_id", sa.String(26), nullable=False),
        sa.PrimaryKeyConstraint("digest", "part", name="pk_snapshot_parts"),
    )
    op.create_index("ix_snapshot_parts_acceleration_id", "snapshot_parts", ["acceleration_id"])
    op.create_table(
        "holdings",
        sa.Column("acceleration_id", sa.String(26), nullable=False),
        sa.Column("node_id", sa.String(26), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("files_total", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("bytes_total", sa.BigInteger(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("error", sa.String(1024), nullable=False),
        sa.Column("told", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("acceleration_id", "node_id", name="pk_holdings"),
        sa.ForeignKeyConstraint(["acceleration_id"], ["accelerations.id"], name="fk_holdings_acceleration_id"),
    )
