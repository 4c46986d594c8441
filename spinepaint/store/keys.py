"""Callers' keys, kept as digests."""

import hashlib
import secrets

from sqlalchemy import exists, select, update

from spinepaint.store.database import Database, utc_now
from spinepaint.store.layout import new_id
from spinepaint.store.models import ApiKey

KEY_PREFIX = "spk_"


def _digest(key: str) -> str:
    # The key has 256 random bits, so a plain hash cannot be searched; a slow one would only cost each request.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class KeyBook(Database):
    """Create, find and revoke keys. A key's id is the tenant of what it submits."""

    def create_key(self, name: str) -> tuple[ApiKey, str]:
        """A new key: its row, and the key itself, which cannot be read again."""
        secret = KEY_PREFIX + secrets.token_urlsafe(32)
        row = ApiKey(id=new_id(), name=name, digest=_digest(secret), created_at=utc_now(), revoked_at=None)
        with self.write() as session:
            session.add(row)
        return row, secret

    def find_key(self, secret: str) -> ApiKey | None:
        """The key's row where it is known and not revoked."""
        with self.read() as session:
            return session.scalar(select(ApiKey).where(ApiKey.digest == _digest(secret), ApiKey.revoked_at.is_(None)))

    def list_keys(self) -> list[ApiKey]:
        """Every key ever made, oldest first."""
        with self.read() as session:
            return list(session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)))

    def revoke_key(self, key_id: str) -> bool:
        """End a key at once; False where there is no such key in force."""
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
            return bool(session.scalar(select(exists().where(ApiKey.revoked_at.is_(None)))))
