"""Sessions and one-time sign-in links, as rows: the statements, each on the connection of the transaction's holder."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select, update

from leeward.server.access import Session
from leeward.server.control import tables

__all__ = [
    "delete_expired",
    "delete_session",
    "delete_sessions_of",
    "insert_link",
    "insert_session",
    "live",
    "use_link",
]


def insert_link(connection: Connection, sha256: bytes, project: int, scope: str, expires_at: int) -> None:
    """Add a link that signs in once."""
    connection.execute(
        insert(tables.sign_in_links).values(sha256=sha256, project_id=project, scope=scope, expires_at=expires_at)
    )


def use_link(connection: Connection, sha256: bytes, now_ms: int) -> tuple[int, str] | None:
    """Use a link up and return its project and scope; None if it is unknown, expired or was used before."""
    links = tables.sign_in_links
    row = connection.execute(
        update(links)
        .where(links.c.sha256 == sha256, links.c.used_at.is_(None), links.c.expires_at > now_ms)
        .values(used_at=now_ms)
        .returning(links.c.project_id, links.c.scope)
    ).first()
    return None if row is None else (row.project_id, row.scope)


def insert_session(connection: Connection, sha256: bytes, session: Session) -> None:
    """Add a session under its cookie's digest."""
    connection.execute(
        insert(tables.sessions).values(
            sha256=sha256,
            project_id=session.project,
            scope=session.scope,
            key_id=session.key_id or None,
            created_at=session.created_at,
            expires_at=session.expires_at,
        )
    )


def live(connection: Connection) -> list[tuple[bytes, Session]]:
    """Return all sessions with their cookie's digest, the oldest first."""
    rows = connection.execute(select(tables.sessions).order_by(tables.sessions.c.created_at))
    return [
        (row.sha256, Session(row.project_id, row.scope, row.key_id or "", row.created_at, row.expires_at))
        for row in rows
    ]


def delete_session(connection: Connection, sha256: bytes) -> None:
    """End one session."""
    connection.execute(delete(tables.sessions).where(tables.sessions.c.sha256 == sha256))


def delete_sessions_of(connection: Connection, key_id: str) -> None:
    """End every session that was signed in with this key."""
    connection.execute(delete(tables.sessions).where(tables.sessions.c.key_id == key_id))


def delete_expired(connection: Connection, now_ms: int) -> None:
    """Forget sessions and links whose time is over."""
    connection.execute(delete(tables.sessions).where(tables.sessions.c.expires_at <= now_ms))
    connection.execute(delete(tables.sign_in_links).where(tables.sign_in_links.c.expires_at <= now_ms))


def delete_beyond(connection: Connection, sessions_max: int) -> None:
    """End the oldest sessions until there are no more than this."""
    held = tables.sessions.c
    newest = select(held.sha256).order_by(held.created_at.desc()).limit(sessions_max)
    connection.execute(delete(tables.sessions).where(held.sha256.not_in(newest)))
