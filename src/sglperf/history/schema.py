"""The tables. A change of theirs raises `SCHEMA_VERSION`; docs/history.md says how an older database is carried over."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 1

metadata = MetaData()
version = Table("sglperf_history", metadata, Column("version", Integer, nullable=False))
runs = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(64), nullable=False, unique=True),
    Column("name", String(80), nullable=False, index=True),
    Column("recorded", String(32), nullable=False, index=True),
    Column("tag", String(40), nullable=False),
    Column("sglang", String(80), nullable=False),
    Column("commit", String(64)),
    Column("label", Text, nullable=False),
    Column("compared", Boolean, nullable=False),  # two builds were: it is no part of a course
    Column("document", Text, nullable=False),  # where run.json was
)
series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(16), nullable=False, unique=True),
    Column("machine", String(160), nullable=False),
    Column("area", String(40), nullable=False),
    Column("name", Text, nullable=False, index=True),
    Column("unit", String(40), nullable=False),
    Column("work", String(12), nullable=False),
)
contexts = Table(
    "context",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(12), nullable=False, unique=True),
    Column("document", JSON, nullable=False),
)
results = Table(
    "result",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("run.id"), nullable=False),
    Column("series_id", ForeignKey("series.id"), nullable=False),
    Column("context_id", ForeignKey("context.id"), nullable=False),
    Column("value", Float, nullable=False),
    Column("launches", JSON, nullable=False),
    Column("status", String(16), nullable=False),
    UniqueConstraint("run_id", "series_id"),
)
# Shards' runs until they are merged. Added to databases that have the tables above, and no reason to refuse those.
shards = Table(
    "shard",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("split", String(120), nullable=False),
    Column("number", Integer, nullable=False),  # of ``of``, from 1
    Column("of", Integer, nullable=False),
    Column("plan", String(16), nullable=False),
    Column("run", String(80), nullable=False),
    Column("recorded", String(32), nullable=False),
    Column("document", LargeBinary, nullable=False),  # run.json, by zlib
    UniqueConstraint("split", "number"),
)
# A course is read series by series: everything but the samples comes from this index alone.
COURSE = Index("course", results.c.series_id, results.c.run_id, results.c.context_id, results.c.value)
