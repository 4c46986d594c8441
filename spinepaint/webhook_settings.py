"""How webhooks are signed, sent and kept from going where they must not: `webhook` in the settings."""

import base64
import binascii
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from spinepaint.callbacks import CallbackRules

PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)
"""What Standard Webhooks asks of a symmetric secret."""

Seconds = Annotated[float, Field(gt=0)]


class WebhookSettings(BaseModel):
    """Webhooks by Standard Webhooks; without a secret a `callback_url` is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    secret: SecretStr = SecretStr("")
    """`whsec_` and 24 to 64 bytes in base64; several with blanks between, of which each signs, while receivers change over."""
    attempts: Annotated[int, Field(gt=0)] = 12
    """After this many tries that failed, a webhook is given up."""
    retry_s: Annotated[float, Field(ge=0)] = 5.0
    """Wait before the second try; each further one waits about twice as long, at most an hour."""
    timeout_s: Seconds = 10.0
    """A receiver that is silent for this long has failed the try."""
    limit_s: Seconds = 20.0
    """A try that takes longer has failed, however busy the receiver is."""
    senders: Annotated[int, Field(gt=0, le=64)] = 4
    """Threads of a worker that send; none sends to a host that another is sending to."""
    allow_http: bool = False
    """Whether addresses may begin with http://."""
    private_hosts: tuple[str, ...] = ()
    """Names, addresses and networks (CIDR) inside that may be reached, beside the open internet; as JSON in the environment."""

    @field_validator("secret")
    @classmethod
    def _keys_of_a_fit_length(cls, secret: SecretStr) -> SecretStr:
        _keys(secret)
        return secret

    @property
    def keys(self) -> list[bytes]:
        """What signs; empty where webhooks are not set up."""
        return _keys(self.secret)

    @property
    def rules(self) -> CallbackRules:
        """Where webhooks may go."""
        return CallbackRules(self.allow_http, self.private_hosts)


def _keys(secret: SecretStr) -> list[bytes]:
    keys = []
    for word in secret.get_secret_value().split():
        try:
            key = base64.b64decode(word.removeprefix(PREFIX), validate=True)
        except binascii.Error:
            key = b""
        if not word.startswith(PREFIX) or len(key) not in _KEY_BYTES:
            raise ValueError(f"a webhook secret is {PREFIX} and 24 to 64 bytes in base64")
        keys.append(key)
    return keys
