"""What PostgreSQL, Valkey and the S3 store say that they were asked for."""

import re
from dataclasses import dataclass, field

import httpx
import redis
from sqlalchemy import Engine, create_engine, make_url, text

_ONLOOKER = "onlooker"
_STATEMENTS = """
SELECT CASE WHEN query ~* '^(insert|update|delete)' THEN 'write'
            WHEN query ~* '^(select|with)' THEN 'read'
            WHEN query ~* '^commit' THEN 'commit' ELSE 'other' END AS kind,
       sum(calls), sum(rows), sum(wal_bytes), sum(total_exec_time)
FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND userid <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
GROUP BY 1
"""
_S3_REQUESTS = re.compile(r'^SeaweedFS_s3_request_total\{[^}]*type="(\w+)"[^}]*\} (\S+)', re.MULTILINE)
_S3_BYTES = re.compile(r"^SeaweedFS_s3_bucket_traffic_(received|sent)_bytes_total\{[^}]*\} (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Counts:
    """Numbers by name, such as `db write statements`, `broker commands`, `s3 PUT` or `s3 received MB`."""

    numbers: dict[str, float] = field(default_factory=dict)

    def __sub__(self, other: "Counts") -> "Counts":
        """What came to be since `other`."""
        names = self.numbers.keys() | other.numbers.keys()
        return Counts({name: self.numbers.get(name, 0.0) - other.numbers.get(name, 0.0) for name in sorted(names)})

    def __add__(self, other: "Counts") -> "Counts":
        """Both together."""
        return self - other.times(-1.0)

    def times(self, factor: float) -> "Counts":
        """So many times as much; for negative factors, as much less."""
        return Counts({name: factor * number for name, number in self.numbers.items()})

    def at_least_nothing(self) -> "Counts":
        """Without what came out below nothing when more was taken away than there was."""
        return Counts({name: max(0.0, number) for name, number in self.numbers.items()})


def onlooker_url(database_url: str) -> str:
    """The database as seen by a user of the bench's own, who is made for it, and whose statements are not counted."""
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if not connection.scalar(text("SELECT count(*) FROM pg_roles WHERE rolname = :name"), {"name": _ONLOOKER}):
            connection.execute(text(f"CREATE ROLE {_ONLOOKER} SUPERUSER LOGIN"))
    engine.dispose()
    return make_url(database_url).set(username=_ONLOOKER).render_as_string(hide_password=False)


class Counters:
    """The servers' own statistics but for what the onlooker asks."""

    def __init__(self, looking_url: str, broker_url: str, metrics_url: str) -> None:
        """`looking_url` is an `onlooker_url`; `metrics_url` is where the S3 store tells its figures."""
        self._engine: Engine = create_engine(looking_url, isolation_level="AUTOCOMMIT")
        self._broker = redis.Redis.from_url(broker_url)
        self._metrics_url = metrics_url
        with self._engine.connect() as connection:
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_stat_statements"))

    def now(self) -> Counts:
        """What was counted since the servers were started."""
        return Counts(self._database() | self._commands() | self._objects())

    def connections(self) -> int:
        """Connections to the database but the onlooker's."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename <> current_user"
        with self._engine.connect() as connection:
            return int(connection.scalar(text(query)) or 0)

    def close(self) -> None:
        """Give back the connections."""
        self._engine.dispose()
        self._broker.close()

    def _database(self) -> dict[str, float]:
        found: dict[str, float] = {"db ms": 0.0, "db WAL kB": 0.0}
        with self._engine.connect() as connection:
            for kind, calls, rows, wal_bytes, spent_ms in connection.execute(text(_STATEMENTS)):
                if kind in ("read", "write"):
                    found[f"db {kind} statements"] = float(calls)
                if kind == "write":
                    found["db rows written"] = float(rows)
                if kind == "commit":
                    found["db commits"] = float(calls)
                found["db WAL kB"] += float(wal_bytes) / 1e3
                found["db ms"] += float(spent_ms)
        return found

    def _commands(self) -> dict[str, float]:
        stats: dict[str, dict[str, float]] = self._broker.info("commandstats")  # type: ignore[assignment]
        ours = ("cmdstat_info", "cmdstat_client|setinfo", "cmdstat_hello", "cmdstat_ping")
        return {"broker commands": float(sum(stat["calls"] for name, stat in stats.items() if name not in ours))}

    def _objects(self) -> dict[str, float]:
        told = httpx.get(self._metrics_url, timeout=30).raise_for_status().text
        found: dict[str, float] = {}
        for kind, number in _S3_REQUESTS.findall(told):
            found[f"s3 {kind}"] = found.get(f"s3 {kind}", 0.0) + float(number)
        for way, number in _S3_BYTES.findall(told):
            found[f"s3 MB {way}"] = found.get(f"s3 MB {way}", 0.0) + float(number) / 1e6
        return found
