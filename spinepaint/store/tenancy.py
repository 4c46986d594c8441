"""The ledger as one tenant may see it: every statement is narrowed to the tenant's rows, whoever wrote it.

A query that forgets to ask for the tenant finds no more than one that does: the condition is added where statements are
executed, in subqueries too, and to tables that hang on a job or a series by way of that. So another tenant's id is not found,
as one that never was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, event, exists, select
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction, with_loader_criteria
from sqlalchemy.orm.interfaces import ORMOption

from spinepaint.store.audit import AuditEntry
from spinepaint.store.callers import Caller, caller_of
from spinepaint.store.dicom_models import DicomDelivery, DicomInstance, DicomSeries
from spinepaint.store.ledger import Ledger
from spinepaint.store.models import Announcement, Base, Batch, Delivery, Event, Job, Series

OWNED: tuple[type[Any], ...] = (Series, Batch, Job, DicomSeries, AuditEntry)
"""Tables that name the tenant."""
HANGING: dict[type[Any], tuple[type[Any], str]] = {
    Event: (Job, "job_id"),
    Announcement: (Job, "job_id"),
    Delivery: (Job, "job_id"),
    DicomDelivery: (Job, "job_id"),
    DicomInstance: (DicomSeries, "series"),
}
"""Tables whose rows are their parent's: which table that is, and the column that refers to it."""


class CallerSession(Session):
    """A session that reads, changes and makes rows of one tenant only."""


class CallerLedger(Ledger):
    """A ledger for one request. It has the connections of the whole one, which stays open when it is dropped."""

    def __init__(self, whole: Ledger, caller: Caller) -> None:
        """See of `whole` what `caller` may see."""
        self.__dict__.update(whole.__dict__)
        self.caller = caller
        self.tenant = caller.tenant

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session as the whole ledger's, of the caller's tenant."""
        with self._session(reading=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session as the whole ledger's, of the caller's tenant."""
        with self._session(reading=True) as session:
            yield session

    def _session(self, *, reading: bool) -> Session:
        bind = self._engine.execution_options(reading=True) if reading else self._engine
        return CallerSession(bind, expire_on_commit=False, info={"caller": self.caller})


@lru_cache(maxsize=256)
def _narrowing(tenant: str) -> tuple[ORMOption, ...]:
    own = [with_loader_criteria(table, table.tenant == tenant, include_aliases=True) for table in OWNED]
    hanging = [
        with_loader_criteria(table, _of_parent(parent, getattr(table, column), tenant), include_aliases=True)
        for table, (parent, column) in HANGING.items()
    ]
    return (*own, *hanging)


def _of_parent(parent: type[Base], reference: ColumnElement[Any], tenant: str) -> ColumnElement[bool]:
    owner = parent.__table__.alias()
    owned = select(1).select_from(owner).where(owner.c.id == reference, owner.c.tenant == tenant)
    return exists(owned.correlate_except(owner))


@event.listens_for(CallerSession, "do_orm_execute")
def _narrow(state: ORMExecuteState) -> None:
    caller = caller_of(state.session)
    if caller is None:
        return
    if state.is_select or state.is_update or state.is_delete:
        state.statement = state.statement.options(*_narrowing(caller.tenant))
    elif state.bind_mapper is not None and state.bind_mapper.class_ in OWNED:
        # Rows that are inserted by a statement are not seen by `_own`.
        raise PermissionError(f"a {state.bind_mapper.class_.__name__} is made as an object, so that it is seen whose it is")


@event.listens_for(CallerSession, "before_flush")
def _own(session: Session, _context: UOWTransaction, _instances: Any) -> None:
    """New rows are the caller's. Raises PermissionError for one that is said to be somebody else's."""
    caller = caller_of(session)
    if caller is None:
        return
    for row in session.new:
        if getattr(row, "tenant", caller.tenant) != caller.tenant:
            raise PermissionError(f"a {type(row).__name__} of another tenant")
        if isinstance(row, Job):
            row.key_id = caller.key_id


@event.listens_for(CallerSession, "loaded_as_persistent")
@event.listens_for(CallerSession, "pending_to_persistent")
def _note(session: Session, row: Any) -> None:
    caller = caller_of(session)
    if caller is not None:
        caller.touched.note(row)
