"""Every setting of the service, in one place: environment variables with the prefix SPINEPAINT_, else a default.

Importing this imports neither torch nor a database.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from spinepaint.destinations import Destination, DestinationName
from spinepaint.imaging.caps import Caps
from spinepaint.webhook_settings import WebhookSettings

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


class Settings(BaseSettings):
    """What the gateway and the workers share; the same code runs embedded and deployed, only URLs differ.

    Nested values take two underscores: SPINEPAINT_CAPS__UPLOAD_FILES=5000.
    """

    model_config = SettingsConfigDict(env_prefix="SPINEPAINT_", env_nested_delimiter="__", frozen=True, extra="forbid")

    data_dir: Path = Path("spinepaint-data")
    """Where the embedded database, artifacts and broker keep their files."""
    database_url: str = ""
    """SQLAlchemy URL; empty is a SQLite file in data_dir."""
    artifacts_url: str = ""
    """A folder, file: or s3: URL; empty is a folder in data_dir."""
    migrate_at_start: bool = True
    """Whether what starts brings the database to its schema; where it does not, `spinepaint migrate` does, beforehand."""
    broker_url: str = ""
    """redis:// or valkey URL; empty is a private Valkey that `serve` starts."""
    bundle: Path | None = None
    """Folder of the weights; None is the bundle of the package."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """What the networks run on: auto (the first GPU where there is one, else the CPU), cpu, cuda or cuda:N."""
    worker_batch: Annotated[int, Field(ge=1, le=64)] = 1
    """Draws that a worker samples as one batch, and jobs that it takes at once to have as many; for a GPU."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    hosts: tuple[str, ...] = ()
    """Names under which the gateway answers, beside `host` and those of loopback; as JSON in the environment. Where it listens to
    others, keys are what protects it, and empty is any name."""
    key_rate_per_s: Annotated[float, Field(gt=0, le=10_000)] = 50.0
    """Requests a second that an API key may make in the long run, where it was not created with a rate of its own."""
    key_burst: Annotated[int, Field(gt=0, le=1_000_000)] = 500
    """Requests that a key may make at once after a rest."""
    max_body_bytes: Count = 1 << 20
    """Of a JSON body; uploads have `caps`, batches `max_batch_bytes`."""
    body_idle_s: Seconds = 60.0
    """A body of which nothing comes for this long is refused (408)."""
    body_limit_s: Seconds = 600.0
    """A body that takes longer is refused (408); a second more for each 100 kB that has come."""
    max_head_bytes: Annotated[int, Field(ge=4096, le=2**20)] = 16 * 2**10
    """Of the head of a request: its line and its header fields."""
    head_timeout_s: Seconds = 10.0
    """A connection that has not sent a whole head by then is closed (408)."""
    answer_idle_s: Seconds = 60.0
    """An answer of which a client takes less than a thousand bytes a second for this long is cut."""
    max_connections: Annotated[int, Field(ge=10)] = 1000
    """Connections to one gateway at a time; each stream of events is one."""
    denials_per_s: Annotated[float, Field(gt=0, le=10_000)] = 5.0
    """Requests a second without a key in force that an address is answered in the long run; further ones are not looked at."""
    denials_burst: Annotated[int, Field(gt=0, le=1_000_000)] = 50
    """Such requests that are answered at once after a rest."""
    audit_days: Count = 2190
    """How long the audit trail is kept: six years, as 45 CFR 164.316(b)(2) asks of such records."""
    retain_results_days: Annotated[float, Field(gt=0)] | None = None
    """Jobs are deleted with their results so long after they have ended; None keeps them until somebody deletes them."""
    retain_sources_days: Annotated[float, Field(gt=0)] | None = None
    """Series are deleted so long after they were last stored or read by a job; their results are not. None keeps them."""
    traces_url: str = ""
    """Base URL of an OpenTelemetry collector that takes OTLP by HTTP, such as http://127.0.0.1:4318; empty is no traces."""
    log_format: Literal["json", "text"] = "json"
    """What the service and its workers write to stderr: a JSON object a line, or lines for people."""

    caps: Caps = Caps()
    max_uploads: Count = 64
    """Uploads that one gateway takes in at a time at the very most; how many it does depends on how soon it accepts them."""
    max_incoming_bytes: Count = 10 * 2**30
    """What the uploads under way may have written to the data folder, on one gateway; what comes out of zips is not counted."""
    disk_reserve_bytes: Annotated[int, Field(ge=0)] = 512 * 2**20
    """Of the disk of the data folder uploads leave this free."""
    max_queued_jobs: Count = 10_000
    """Jobs that may wait for one tenant."""
    max_batch_jobs: Count = 5_000
    """Items of one batch."""
    max_batch_bytes: Count = 8 * 2**20
    """Of the request that asks for a batch."""

    deidentify: bool = False
    """Whether outputs are de-identified (PS3.15 basic profile) where a request does not say."""
    deidentify_key: SecretStr = SecretStr("")
    """Secret of this deployment: with it nobody can confirm whose pseudonym one is, and a patient's studies share one."""

    destinations: dict[DestinationName, Destination] = {}
    """Where results can be delivered, by the name that a job gives; as JSON in the environment."""
    delivery_attempts: Count = 8
    """After this many tries that failed, a delivery fails."""
    delivery_retry_s: Annotated[float, Field(ge=0)] = 30.0
    """Wait before the second try; each further one waits twice as long, at most an hour."""
    delivery_timeout_s: Seconds = 60.0
    """A destination that is silent for this long has failed the try."""
    delivery_limit_s: Seconds = 300.0
    """A try that takes longer has failed, however busy the destination is; a second more for each 100 kB to be sent."""

    webhook: WebhookSettings = WebhookSettings()
    """How callers are told that a job has ended; SPINEPAINT_WEBHOOK__SECRET switches that on."""

    storing_limit_s: Seconds = 3600.0
    """An upload that takes longer to store is refused; what a killed gateway had stored of one goes after twice as long."""

    max_attempts: Count = 3
    """After this many attempts that stopped or failed, a job fails."""
    job_limit_s: Seconds = 3600.0
    """An attempt that takes longer is stopped and fails."""
    heartbeat_s: Seconds = 5.0
    stale_after_s: Seconds = 60.0
    """A running job without a heartbeat for this long is taken back."""
    progress_s: Annotated[float, Field(ge=0)] = 0.5
    """At most one progress event in this time, unless the stage changes."""
    retry_delay_s: Annotated[float, Field(ge=0)] = 10.0
    """Wait before the second attempt; each further one waits twice as long."""
    announce_every_s: Seconds = 0.25
    """How often the outbox is emptied to the broker."""
    reap_every_s: Seconds = 5.0
    """How often stale jobs are looked for and lost files deleted."""
    reannounce_after_s: Seconds = 60.0
    """A queued job of which nothing was heard for this long is announced again, where the broker has fewer messages."""
    shutdown_grace_s: Seconds = 20.0
    """How long a worker that is asked to stop may take to give its job back."""

    @model_validator(mode="before")
    @classmethod
    def _embedded_defaults(cls, values: dict[str, object]) -> dict[str, object]:
        folder = Path(str(values.get("data_dir") or cls.model_fields["data_dir"].default)).absolute()
        filled = dict(values, data_dir=folder)
        filled["database_url"] = values.get("database_url") or f"sqlite:///{folder / 'ledger.sqlite3'}"
        filled["artifacts_url"] = values.get("artifacts_url") or str(folder / "artifacts")
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.stale_after_s < 3 * self.heartbeat_s:
            raise ValueError("stale_after_s must be at least three heartbeats, or a busy worker loses its job")
        return self

    @property
    def attempt_limit_s(self) -> float:
        """After how many seconds no attempt can still be running, whatever it hangs on."""
        return self.job_limit_s + 2 * self.stale_after_s
