"""What a key may ask of the gateway: requests a minute, tokens and US dollars a day; null is no limit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Give the keys these limits: none."""
    op.add_column("keys", sa.Column("requests_per_minute_max", sa.BigInteger))
    op.add_column("keys", sa.Column("tokens_per_day_max", sa.BigInteger))
    op.add_column("keys", sa.Column("usd_per_day_max", sa.Double))
