"""How many events a key may bring, a minute and a day; null is no limit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Give the keys their limits: none."""
    op.add_column("keys", sa.Column("events_per_minute_max", sa.BigInteger))
    op.add_column("keys", sa.Column("events_per_day_max", sa.BigInteger))
