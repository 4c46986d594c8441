"""The settings as commands see them: from the environment, with what the command line gives."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

if TYPE_CHECKING:
    from spinepaint.settings import Settings


def settings_with(**given: Any) -> "Settings":
    """The settings of the environment and those of `given` that are not None. Raises BadParameter, naming the variable."""
    from spinepaint.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except SettingsError as error:  # what cannot even be parsed; only the text names the field
        field = re.search(r'field "(\w+)"', str(error))
        name = field.group(1).upper() if field else "*"
        raise typer.BadParameter("Input should be valid JSON", param_hint=f"SPINEPAINT_{name}") from None
    except ValidationError as error:
        first = error.errors()[0]
        name = "__".join(str(part) for part in first["loc"]).upper()
        raise typer.BadParameter(first["msg"], param_hint=f"SPINEPAINT_{name}") from None


def lacks_ledger(database_url: str) -> bool:
    """Whether it is of a SQLite file that is not there yet; asked before anything is made."""
    path = database_url.removeprefix("sqlite:///")
    return path != database_url and not Path(path).exists()
