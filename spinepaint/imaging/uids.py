"""UIDs that follow from what they name, so that the same work done twice has the same UIDs."""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from pydicom.uid import UID

_NAMESPACE = uuid.UUID("0f1d4a1c-6a0e-5d36-9c55-8f4f2d4f6a11")


def canonical_json(value: Mapping[str, Any]) -> str:
    """`value` as JSON that does not depend on the order of its keys. Raises ValueError for NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def uid_from(*parts: str) -> UID:
    """UID derived from `parts`, in order: a name-based UUID (RFC 9562, version 5) under 2.25 (PS3.5 B.2).

    The parts keep their borders: ("ab", "c") and ("a", "bc") differ.
    """
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps(parts)).int}")


IMPLEMENTATION_CLASS_UID = uid_from("spinepaint", "implementation class")
"""Identifies this writer in the File Meta Information (PS3.7 D.3.3.2)."""
