"""Folders for what a request needs on disk, and for no longer than that."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from anyio import CancelScope, to_thread


@asynccontextmanager
async def scratch_folder(parent: Path, prefix: str) -> AsyncIterator[Path]:
    """A fresh folder in `parent`, removed at the end, however that comes.

    Off the event loop, which would stand still: there may be thousands of files in it.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        yield folder
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(shutil.rmtree, folder)
