"""What schemathesis is told of the gateway that it asks: ids that there are, in place of most that it made up.

It loads this module itself, by SCHEMATHESIS_HOOKS. Every third request stays as it was generated.
"""

import itertools
import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import schemathesis

_KNOWN: dict[str, Any] = json.loads(Path(os.environ["SPINEPAINT_API_KNOWN"]).read_text())
_TURNS: "defaultdict[str, itertools.count[int]]" = defaultdict(itertools.count)
_SPEC = '{"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small"}'


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Name what there is, in two requests of three; send a series that is one in one upload of eight."""
    turn = next(_TURNS[case.operation.label])
    if turn % 3 and case.path_parameters:
        for name in set(case.path_parameters) & set(_KNOWN):
            known = _KNOWN[name]
            case.path_parameters[name] = known[turn % len(known)]
    if turn % 3 and isinstance(case.body, dict):
        series_id = _KNOWN["series_id"][turn % len(_KNOWN["series_id"])]
        for name, value in (("series_id", series_id), ("series_ids", [series_id])):
            if name in case.body:
                case.body[name] = value
    if turn % 8 == 1 and isinstance(case.body, dict) and "files" in case.body:
        case.body["files"] = [bytes.fromhex(_KNOWN["zip"])]
        if "spec" in case.body:
            case.body["spec"] = _SPEC
