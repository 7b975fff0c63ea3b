"""Regions, nodes and the tokens that they join with."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "regions",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("title", sa.String(255), nullable=False),
        sa.Column("title_zh", sa.String(255), nullable=False),
        sa.Column("desired", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_regions"),
        sa.UniqueConstraint("name", name="uq_regions_name"),
    )
    op.create_table(
        "nodes",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("region_id", sa.String(26), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("joined", sa.BigInteger(), nullable=False),
        sa.Column("heard", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("capacity_bytes", sa.BigInteger(), nullable=False),
        sa.Column("used_bytes", sa.BigInteger(), nullable=False),
        sa.Column("applied", sa.BigInteger(), nullable=False),
        sa.Column("health", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_nodes"),
        sa.ForeignKeyConstraint(["region_id"], ["regions.id"], name="fk_nodes_region_id"),
        sa.UniqueConstraint("region_id", "name", name="uq_nodes_region_id_name"),
    )
    op.create_index("ix_nodes_region_id", "nodes", ["region_id"])
    op.create_table(
        "join_tokens",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("region_id", sa.String(26), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("spent_by", sa.String(26), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_join_tokens"),
        sa.ForeignKeyConstraint(["region_id"], ["regions.id"], name="fk_join_tokens_region_id"),
    )
    op.create_index("ix_join_tokens_region_id", "join_tokens", ["region_id"])
