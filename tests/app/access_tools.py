"""Keys and clients for the tests of access."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from fastapi.testclient import TestClient

from spinepaint.app.gateway import create_app
from spinepaint.settings import Settings
from spinepaint.store import Ledger, migrate
from spinepaint.store.keys import Scope

ALL = tuple(Scope)


class Site:
    """A gateway, or several, over one ledger; clients by the key that they send."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        migrate(settings.database_url)
        self.settings, self._stack = settings, stack
        self.ledger = Ledger(settings.database_url)
        stack.callback(self.ledger.close)
        self.app = create_app(settings)
        self.nobody = self._entered(self.app)

    def _entered(self, app: Any) -> TestClient:
        client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
        return self._stack.enter_context(client)

    def key(self, tenant: str = "ours", scopes: Any = ALL, **more: Any) -> tuple[str, str]:
        """A new key's id, and itself."""
        row, key = self.ledger.create_key("test", tenant=tenant, scopes=scopes, **more)
        return row.id, key

    def client(self, key: str, app: Any = None) -> TestClient:
        """Sends a key to the gateway, whose lifespan another client keeps."""
        headers = {"Authorization": f"Bearer {key}"}
        return TestClient(app or self.app, "http://127.0.0.1:8000", headers=headers, raise_server_exceptions=False)

    def another_gateway(self) -> Any:
        """One more over the same ledger and broker."""
        app = create_app(self.settings)
        self._entered(app)
        return app


@contextmanager
def opened(settings: Settings) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(settings, stack)
