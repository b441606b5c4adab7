"""How Alembic runs a migration here: on the connection it is given, everything in one transaction.

SQLite's own DDL is transactional, so an interrupted migration leaves the revision that was there before.
"""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
