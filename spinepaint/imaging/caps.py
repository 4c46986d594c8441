"""How much an upload may cost before it is refused."""

from dataclasses import dataclass, fields

from spinepaint.imaging.errors import Refusal

KIB, MIB, GIB = 2**10, 2**20, 2**30


@dataclass(frozen=True)
class Caps:
    """Limits that hold before anything large is allocated; a refusal by one of them names it.

    Attributes
    ----------
    upload_bytes: of all files of a source together, or of the zip.
    upload_files: files of a source, or entries of the zip.
    file_bytes: of one file, or of one entry of the zip once inflated.
    inflated_bytes: of everything that is inflated out of one zip.
    inflation_ratio: inflated bytes over the bytes of the zip; it holds once `inflation_ratio_from_bytes` are inflated,
        since a small file of zeros compresses well without being an attack.
    header_bytes: of one instance before its pixels, and again after them.
    header_elements: of one instance, those inside its sequences and their items included.
    pixels_per_series: rows x columns x frames of all instances of the chosen series.
    reader_memory_bytes: what the process that reads a source may take for it. The other caps hold before; this one holds
        for whatever they did not foresee.
    """

    upload_bytes: int = 2 * GIB
    upload_files: int = 20_000
    file_bytes: int = 1 * GIB
    inflated_bytes: int = 4 * GIB
    inflation_ratio: float = 200.0
    inflation_ratio_from_bytes: int = 32 * MIB
    header_bytes: int = 16 * MIB
    header_elements: int = 50_000
    pixels_per_series: int = 64 * MIB
    reader_memory_bytes: int = 4 * GIB

    def __post_init__(self) -> None:
        """Refuse a cap that would refuse everything. Raises ValueError."""
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"{field.name} must be above zero")

    def enforce(self, cap: str, amount: float) -> None:
        """Raise Refusal, type `over-cap-<name>`, where `amount` is above the cap called `cap`."""
        limit = getattr(self, cap)
        if amount > limit:
            raise self.refusal(cap, f"has {amount:g}")

    def refusal(self, cap: str, what: str) -> Refusal:
        """The refusal of what is over the cap called `cap`; `what` says by how much, as in "has 12"."""
        return Refusal(
            type="over-cap-" + cap.replace("_", "-"),
            title=f"The upload is over the cap {cap}.",
            detail=f"{cap} is {getattr(self, cap):g} here and this {what}. Send less, or ask for a higher {cap}.",
            status=413,
        )


DEFAULT_CAPS = Caps()
