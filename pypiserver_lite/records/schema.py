"""The tables of the records, as steps from one schema number to the next. A step that was published never changes."""

from __future__ import annotations

from collections.abc import Sequence

APPLICATION = 0x7079706C
"""What tells a file of records from other databases of SQLite: ``pypl``."""

Step = Sequence[str]
"""Statements that lead from one schema number to the next."""

STEPS: Sequence[Step] = (
    (
        f"PRAGMA application_id = {APPLICATION}",
        # Numbers are never given twice, though refusals go after a while: pages of the trail begin after one.
        """CREATE TABLE events (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            moment INTEGER NOT NULL,  -- microseconds since 1970
            who TEXT NOT NULL, token TEXT NOT NULL, address TEXT NOT NULL, client TEXT NOT NULL, action TEXT NOT NULL,
            place TEXT NOT NULL,  -- the index
            project TEXT NOT NULL, version TEXT NOT NULL,
            files TEXT NOT NULL,  -- JSON: pairs of name and SHA-256
            outcome TEXT NOT NULL, reason TEXT NOT NULL
        )""",
        "CREATE INDEX events_of_project ON events (project, id)",
        "CREATE INDEX events_of_user ON events (who, id)",
        "CREATE INDEX refusals ON events (id) WHERE outcome = 'refused'",
        """CREATE TABLE published (
            place TEXT, project TEXT, filename TEXT, who TEXT NOT NULL, moment INTEGER NOT NULL, sha256 TEXT NOT NULL,
            PRIMARY KEY (place, project, filename)
        ) WITHOUT ROWID""",
        """CREATE TABLE tokens (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            digest BLOB NOT NULL UNIQUE,  -- SHA-256 of the secret
            name TEXT NOT NULL,
            user TEXT,  -- NULL: of no user
            may TEXT,  -- words; NULL: all that its user may
            indexes TEXT NOT NULL, projects TEXT NOT NULL,  -- words; empty: all
            created INTEGER NOT NULL, by TEXT NOT NULL,
            expires INTEGER,  -- microseconds since 1970
            used INTEGER  -- the day, counted from 1970
        )""",
        "CREATE UNIQUE INDEX token_names ON tokens (coalesce(user, ''), name)",
        """CREATE TABLE owners (
            place TEXT, project TEXT, user TEXT, moment INTEGER NOT NULL,
            settled INTEGER NOT NULL,  -- 1; below 0: how many uploads that claim it are under way
            PRIMARY KEY (place, project, user)
        ) WITHOUT ROWID""",
        """CREATE TABLE downloads (
            place TEXT, project TEXT, filename TEXT,
            day INTEGER,  -- counted from 1970; 0: all days that are too old to be told apart
            count INTEGER NOT NULL,
            PRIMARY KEY (place, project, filename, day)
        ) WITHOUT ROWID""",
        "CREATE INDEX downloads_by_day ON downloads (day, place, project, count)",
        "CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        # How often something changed that is kept in memory: each process compares, and reads it again.
        "CREATE TABLE changes (what TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO changes VALUES ('tokens', 0)",
    ),
    (
        # Sessions that were signed out of, each until (seconds since 1970) it would have ended.
        "CREATE TABLE sign_outs (session TEXT PRIMARY KEY, user TEXT NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID",
    ),
)
