"""The control database's tables, as the queries see them. `migrations/` makes them; a test holds the two together.

Times are milliseconds since 1970 UTC. Secrets (keys, cookies, one-time links) are kept as their SHA-256 only.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

__all__ = ["HEAD", "keys", "metadata", "projects", "sessions", "sign_in_links"]

HEAD: Final = "0003"  # the newest revision under migrations/versions; known here so that a start needs no Alembic

metadata = MetaData()

projects = Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    sqlite_autoincrement=True,  # a number is never given twice: the store keeps events under it
)

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Integer, ForeignKey("projects.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False, unique=True),
    Column("last4", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("events_per_minute_max", BigInteger),  # null: no limit
    Column("events_per_day_max", BigInteger),
    Column("requests_per_minute_max", BigInteger),
    Column("tokens_per_day_max", BigInteger),
    Column("usd_per_day_max", Double),
    CheckConstraint("scope IN ('write', 'read', 'chat', 'admin')", name="keys_scope"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("project_id", Integer, ForeignKey("projects.id"), nullable=False),
    Column("scope", Text, nullable=False),
    Column("key_id", Text, ForeignKey("keys.id")),  # null: signed in by a one-time link
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    CheckConstraint("scope IN ('write', 'read', 'chat', 'admin')", name="sessions_scope"),
)

sign_in_links = Table(
    "sign_in_links",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("project_id", Integer, ForeignKey("projects.id"), nullable=False),
    Column("scope", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    CheckConstraint("scope IN ('write', 'read', 'chat', 'admin')", name="sign_in_links_scope"),
)
