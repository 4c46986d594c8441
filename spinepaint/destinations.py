"""Where finished jobs can be delivered: DICOMweb services and DICOM nodes, named in the settings."""

from typing import Annotated, Literal

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, SecretStr

AeTitle = Annotated[str, Field(pattern=r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?$")]
"""PS3.5 6.2: at most 16 characters without backslash and control characters; blanks only within."""
DestinationName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class _Destination(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StowDestination(_Destination):
    """A DICOMweb service that takes STOW-RS (PS3.18 10.5); `url` is its base, below which `/studies` is.

    `authorization` is sent as the header of that name.
    """

    type: Literal["stow"]
    url: AnyHttpUrl
    authorization: SecretStr | None = None


class StoreDestination(_Destination):
    """A DICOM node that takes C-STORE (PS3.4 B); `ae_title` is its own, `calling_ae_title` the one to come with."""

    type: Literal["c-store"]
    host: Annotated[str, Field(min_length=1, max_length=253)]
    port: Annotated[int, Field(ge=1, le=65535)]
    ae_title: AeTitle
    calling_ae_title: AeTitle = "SPINEPAINT"


Destination = Annotated[StowDestination | StoreDestination, Field(discriminator="type")]
