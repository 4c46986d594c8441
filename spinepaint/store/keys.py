"""Callers' keys, kept as digests: `sp_<id>_<secret>`, of which only the id can be read again."""

import hashlib
import hmac
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, and_, exists, or_, select, update

from spinepaint.store.database import Database, utc_now
from spinepaint.store.models import ApiKey
from spinepaint.store.priorities import Priority

PREFIX = "sp"
SECRET_BYTES = 32
USED_EVERY = timedelta(minutes=1)
"""How exact `last_used_at` is; so a key in constant use costs a write a minute, and not one a request."""


class Scope(StrEnum):
    """What a key may do. None contains another, so that a sender of series need not be able to read them."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"
    METRICS = "metrics"


DEFAULT_SCOPES = (Scope.READ, Scope.WRITE)


def _digest(key: str) -> str:
    # The secret has 256 random bits, so nobody can try all that might have this digest, however fast the hash is. A slow
    # one is for what people choose; here it would only cost each request its time.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _in_force(now: datetime) -> ColumnElement[bool]:
    return and_(ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now))


def in_force(key: ApiKey) -> bool:
    """Whether a key opens anything at this moment."""
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > utc_now())


class KeyBook(Database):
    """Create, find and revoke keys."""

    def create_key(
        self,
        name: str,
        *,
        tenant: str = "",
        scopes: Collection[Scope] = DEFAULT_SCOPES,
        expires_at: datetime | None = None,
        rate_per_s: float | None = None,
        burst: int | None = None,
        max_queued_jobs: int | None = None,
        max_priority: Priority | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key of a tenant, which may have several: its row, and the key itself, which cannot be read again."""
        key_id = secrets.token_hex(8)
        key = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
        row = ApiKey(
            id=key_id,
            name=name,
            tenant=tenant,
            scopes=sorted({Scope(scope).value for scope in scopes}),
            digest=_digest(key),
            rate_per_s=rate_per_s,
            burst=burst,
            max_queued_jobs=max_queued_jobs,
            max_priority=None if max_priority is None else max_priority.value,
            created_at=utc_now(),
            expires_at=expires_at,
            revoked_at=None,
            last_used_at=None,
        )
        with self.write() as session:
            session.add(row)
        return row, key

    def find_key(self, key: str) -> ApiKey | None:
        """The row of a key, in force or not; None where it is not one of these."""
        prefix, _, rest = key.partition("_")
        key_id, _, _secret = rest.partition("_")
        if prefix != PREFIX:
            return None
        with self.read() as session:
            row = session.scalar(select(ApiKey).where(ApiKey.id == key_id)) if key_id.isalnum() else None
        return row if row is not None and hmac.compare_digest(row.digest, _digest(key)) else None

    def get_key(self, key_id: str) -> ApiKey | None:
        """The key's row, or None."""
        with self.read() as session:
            return session.get(ApiKey, key_id)

    def note_use(self, key: ApiKey) -> None:
        """Write down that a key is being used, unless that was done within the minute."""
        now = utc_now()
        stale = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < now - USED_EVERY)
        if key.last_used_at is None or key.last_used_at < now - USED_EVERY:
            with self.write() as session:
                session.execute(update(ApiKey).where(ApiKey.id == key.id, stale).values(last_used_at=now))

    def list_keys(self, tenant: str | None = None) -> list[ApiKey]:
        """Every key ever made, or those of a tenant, oldest first."""
        query = select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)
        if tenant is not None:
            query = query.where(ApiKey.tenant == tenant)
        with self.read() as session:
            return list(session.scalars(query))

    def revoke_key(self, key_id: str) -> bool:
        """End a key at once; False where there is no such key, or it was revoked before."""
        with self.write() as session:
            revoked = session.scalar(
                update(ApiKey)
                .where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
                .values(revoked_at=utc_now())
                .returning(ApiKey.id)
            )
        return revoked is not None

    def has_keys(self) -> bool:
        """Whether any key is in force."""
        with self.read() as session:
            return bool(session.scalar(select(exists().where(_in_force(utc_now())))))

    def had_keys(self) -> bool:
        """Whether any key was ever made. A service that has had one stays closed when the last has run out."""
        with self.read() as session:
            return bool(session.scalar(select(exists(select(ApiKey.id)))))
