"""What the reader says when it will not take something, and what is wrong when nothing can be written."""

import errno
from dataclasses import dataclass, field
from typing import Any

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class InstanceReason:
    """One refused file: the name it came under, its SOP Instance UID where readable, and why."""

    file: str
    reason: str
    sop_instance_uid: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """The entry of a problem document's `instances`."""
        return {"file": self.file, "sop_instance_uid": self.sop_instance_uid, "reason": self.reason}


@dataclass
class Refusal(Exception):
    """The caller's input was refused (exit status 3; HTTP 4xx).

    `type` is a stable slug such as `missing-slice`; `title` is one short sentence; `detail` says what
    a person can do about it. Nothing in it identifies a patient.
    """

    type: str
    title: str
    detail: str = ""
    instances: list[InstanceReason] = field(default_factory=list)
    status: int = 422

    def __str__(self) -> str:
        """The title and the detail, as one line."""
        return f"{self.title} {self.detail}".strip()

    def as_problem(self) -> dict[str, Any]:
        """RFC 9457 problem document."""
        problem: dict[str, Any] = {
            "type": f"https://spinepaint.invalid/problems/{self.type}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.instances:
            problem["instances"] = [instance.as_dict() for instance in self.instances]
        return problem


class NotVerified(Refusal):
    """No attempt shows what was asked, and the caller wants nothing less; the input was all right (exit status 1)."""


class DiskFull(Exception):
    """What has to be written on the way found no space; no OSError, which would pass for a defect of what is read."""


def is_disk_full(error: BaseException) -> bool:
    """Whether there was no space left for a write. Libraries wrap the system's error in their own, which has no number."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _NO_SPACE:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def disk_full() -> Refusal:
    """What a caller is told where there was no space for what it sent; that is no fault of what was sent."""
    return Refusal(
        "disk-full", "The service has no space left for this.", "Nothing of it was kept. Send it again later.", status=503
    )
