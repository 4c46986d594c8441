"""Makes names and texts of an upload fit to be shown."""

_LONGEST = 120
_OS_LEFTOVERS = {"thumbs.db", "desktop.ini", ".ds_store"}


def shown_text(text: str) -> str:
    """`text` printable and short, so that it cannot forge a line of a log or a header."""
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable if len(printable) <= _LONGEST else printable[: _LONGEST - 1] + "…"


def shown_name(name: str) -> str:
    """The basename of a path, fit to be shown."""
    return shown_text(name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or "unnamed")


def leftover(name: str) -> str | None:
    """Why a file of this path is passed over unopened: what operating systems leave behind. None where it is not."""
    parts = name.replace("\\", "/").split("/")
    if "__MACOSX" in parts or parts[-1].startswith("._"):
        return "a macOS resource file"
    if parts[-1].lower() in _OS_LEFTOVERS:
        return "a folder view's leftover"
    return None
