"""A schedule of refreshes for each acceleration."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("accelerations", sa.Column("refresh_every_seconds", sa.Integer(), nullable=False, server_default="0"))
