from sqlalchemy import select

from spinepaint.store import ApiKey, Ledger


def test_a_key_is_found_by_its_secret_alone(ledger: Ledger) -> None:
    row, secret = ledger.create_key("scanner room")
    found = ledger.find_key(secret)
    assert found is not None
    assert (found.id, found.name) == (row.id, "scanner room")
    assert ledger.find_key(secret[:-1]) is None
    assert ledger.find_key(row.id) is None
    assert ledger.find_key("\ud800") is None


def test_the_secret_itself_is_kept_nowhere(ledger: Ledger) -> None:
    _, secret = ledger.create_key("a")
    with ledger.read() as session:
        row = session.execute(select(ApiKey.__table__)).one()
    assert not any(secret in str(value) or secret.removeprefix("spk_") in str(value) for value in row)


def test_a_revoked_key_opens_nothing_and_stays_listed(ledger: Ledger) -> None:
    assert not ledger.has_keys()
    row, secret = ledger.create_key("a")
    assert ledger.has_keys()
    assert ledger.revoke_key(row.id)
    assert not ledger.revoke_key(row.id)
    assert ledger.find_key(secret) is None
    assert not ledger.has_keys()
    assert [key.id for key in ledger.list_keys()] == [row.id]
