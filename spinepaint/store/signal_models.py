"""The ledger's tables of what operators look at: counts that outlive their jobs, and workers that are there."""

from datetime import datetime

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from spinepaint.store.models import Base


class Tally(Base):
    """So many observations under a name and a label; the rows of one name, label and bound are to be added up.

    Rows are only added, so that no two workers wait for one another; the reaper folds them. `bound` is the upper bound of
    the histogram bucket that the observations fall into (infinite: above the last); None for what is only counted. `total`
    is the sum of the observations in thousandths, a whole number.
    """

    __tablename__ = "tallies"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str]
    label: Mapped[str]
    bound: Mapped[float | None]
    count: Mapped[int] = mapped_column(BigInteger)
    total: Mapped[float]


class Worker(Base):
    """A worker process that says now and then that it is there, and what memory it has. GPU memory is the whole device's."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(index=True)
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    gpu_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    gpu_memory_used_bytes: Mapped[int | None] = mapped_column(BigInteger)
