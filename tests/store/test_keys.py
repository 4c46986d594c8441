from datetime import timedelta

import pytest
from sqlalchemy import select

from spinepaint.store import ApiKey, Ledger
from spinepaint.store.database import utc_now
from spinepaint.store.keys import USED_EVERY, Scope, in_force


def test_a_key_is_found_by_its_secret_alone(ledger: Ledger) -> None:
    row, key = ledger.create_key("scanner room", tenant="radiology", scopes=[Scope.WRITE])
    found = ledger.find_key(key)
    assert found is not None
    assert (found.id, found.name, found.tenant, found.scopes) == (row.id, "scanner room", "radiology", ["write"])
    other = ledger.create_key("b")[1]
    mixed = f"sp_{row.id}_{other.split('_', 2)[2]}"
    wrong = (key[:-1], key + "x", row.id, f"sp_{row.id}_", mixed, "", "sp__", "\ud800", "sp_\0_x")
    assert [ledger.find_key(text) for text in wrong] == [None] * len(wrong)


def test_no_two_keys_are_alike_and_a_secret_has_256_bits(ledger: Ledger) -> None:
    keys = [ledger.create_key("a")[1] for _ in range(20)]
    secrets = {key.split("_", 2)[2] for key in keys}
    assert len(secrets) == 20
    assert {len(secret) for secret in secrets} == {43}  # 32 bytes in base64
    assert all(key.startswith("sp_") for key in keys)


def test_the_secret_itself_is_kept_nowhere(ledger: Ledger) -> None:
    _, key = ledger.create_key("a")
    with ledger.read() as session:
        row = session.execute(select(ApiKey.__table__)).one()
    assert not any(key in str(value) or key.split("_", 2)[2] in str(value) for value in row)


def test_a_revoked_key_is_known_as_such_and_stays_listed(ledger: Ledger) -> None:
    assert not ledger.has_keys() and not ledger.had_keys()
    row, key = ledger.create_key("a")
    assert ledger.has_keys() and ledger.had_keys()
    assert ledger.revoke_key(row.id)
    assert not ledger.revoke_key(row.id)
    assert not ledger.revoke_key("none")
    found = ledger.find_key(key)
    assert found is not None and not in_force(found)
    assert not ledger.has_keys() and ledger.had_keys()
    assert [key.id for key in ledger.list_keys()] == [row.id]


def test_a_key_runs_out(ledger: Ledger) -> None:
    past = ledger.create_key("past", expires_at=utc_now() - timedelta(seconds=1))[0]
    assert not in_force(past)
    assert not ledger.has_keys() and ledger.had_keys()
    assert in_force(ledger.create_key("future", expires_at=utc_now() + timedelta(days=1))[0])
    assert ledger.has_keys()


def test_keys_of_a_tenant(ledger: Ledger) -> None:
    rows = [ledger.create_key(name, tenant=tenant)[0] for name, tenant in (("a", "one"), ("b", "two"), ("c", "one"))]
    assert [key.id for key in ledger.list_keys("one")] == [rows[0].id, rows[2].id]
    assert len(ledger.list_keys()) == 3


def test_use_is_written_down_at_most_once_a_minute(ledger: Ledger) -> None:
    row, key = ledger.create_key("a")
    ledger.note_use(row)
    first = ledger.get_key(row.id)
    assert first is not None and first.last_used_at is not None
    ledger.note_use(first)
    ledger.note_use(row)  # as another gateway would, which read the row before
    assert ledger.get_key(row.id).last_used_at == first.last_used_at  # type: ignore[union-attr]
    with ledger.write() as session:
        stored = session.get(ApiKey, row.id)
        assert stored is not None
        stored.last_used_at = utc_now() - USED_EVERY - timedelta(seconds=1)
        long_ago = stored.last_used_at
    found = ledger.find_key(key)
    assert found is not None
    ledger.note_use(found)
    assert ledger.get_key(row.id).last_used_at > long_ago  # type: ignore[operator, union-attr]


def test_a_scope_that_is_none_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="everything"):
        ledger.create_key("a", scopes=["everything"])  # type: ignore[list-item]
