"""A device that is not there: its tensors say `meta`, are computed on the CPU, and go with no tensor that is not on it.

So tests without a GPU see what a GPU would refuse: an input that was not moved, a result that was not brought back.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

META = torch.device("meta")


class Held(Tensor):
    """A tensor on the device; `held` is its content."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Held":
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined,no-any-return]
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=META
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _computed(function, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    """The context in which there is such a device."""

    def __enter__(self) -> "Elsewhere":
        self._making = _Making()
        self._making.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._making.__exit__(*raised)

    def __torch_dispatch__(self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return _computed(function, args, kwargs or {})


class _Making(TorchFunctionMode):
    """`torch.tensor` makes its result where no dispatch sees it."""

    def __torch_function__(self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if function is not torch.tensor or given.get("device") is None:
            return function(*args, **given)
        device = given.pop("device")
        return torch.tensor(*args, **given).to(device)


def _computed(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    leaves = tree_leaves((args, kwargs))
    there = [isinstance(leaf, Held) for leaf in leaves if isinstance(leaf, Tensor) and leaf.dim() > 0]
    wanted = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
    if any(there) and not all(there) and not wanted and "copy_" not in str(function):
        raise RuntimeError(f"{function}: tensors on two devices")
    result = function(*tree_map(_content, args), **tree_map(_content, kwargs))
    if function._schema.is_mutable:  # type: ignore[attr-defined]
        return args[0]
    if wanted[0] == META if wanted else any(isinstance(leaf, Held) for leaf in leaves):
        return tree_map(lambda leaf: Held(leaf) if isinstance(leaf, Tensor) else leaf, result)
    return result


def _content(leaf: Any) -> Any:
    if isinstance(leaf, torch.device):
        return torch.device("cpu")
    return leaf.held if isinstance(leaf, Held) else leaf
