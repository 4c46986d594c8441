"""Where the next page of a list starts: the moment and the id of the last entry of the page before."""

import base64
import binascii
from datetime import datetime

from spinepaint.store.errors import BadCursor


def encode_cursor(created_at: datetime, entry_id: str) -> str:
    """A cursor that says nothing to a client but where to go on."""
    return base64.urlsafe_b64encode(f"{created_at.isoformat()}|{entry_id}".encode()).decode()


def decode_cursor(cursor: str) -> tuple[datetime, str]:
    """Moment and id of the last entry that was seen. Raises BadCursor."""
    try:
        at, entry_id = base64.urlsafe_b64decode(cursor.encode("ascii", "strict")).decode().split("|")
        created_at = datetime.fromisoformat(at)
    except (ValueError, binascii.Error) as error:
        raise BadCursor("not a cursor of this list") from error
    if created_at.tzinfo is None or "\0" in entry_id:  # PostgreSQL takes no text with it
        raise BadCursor("not a cursor of this list")
    return created_at, entry_id
