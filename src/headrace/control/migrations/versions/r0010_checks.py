"""Connection checks that nodes run."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "checks",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("region_id", sa.String(26), nullable=False),
        sa.Column("node_id", sa.String(26), nullable=False),
        sa.Column("lease", sa.Integer(), nullable=False),
        sa.Column("leased", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("question", sa.LargeBinary(), nullable=True),
        sa.Column("findings", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_checks"),
    )
    for column in ("expires", "node_id"):
        op.create_index(f"ix_checks_{column}", "checks", [column])
