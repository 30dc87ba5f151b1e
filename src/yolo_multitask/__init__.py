"""Boxes, instance masks and keypoints from one network in one forward pass, on unmodified Ultralytics.

Importing this package imports neither torch nor Ultralytics. What the package adds to Ultralytics' tables is added at
once where Ultralytics is already loaded (as when it unpickles one of our checkpoints), else at the first use of a
public name.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolo_multitask.engine.results import Results
    from yolo_multitask.host import register
    from yolo_multitask.model import MultiTaskYOLO
    from yolo_multitask.nn.network import MultiTaskModel

__version__ = "0.1.0"
__all__ = ["MultiTaskModel", "MultiTaskYOLO", "Results", "__version__", "register"]

# public name -> module that defines it; all of them need torch and Ultralytics
_HOMES = MappingProxyType(
    {
        "MultiTaskModel": "yolo_multitask.nn.network",
        "MultiTaskYOLO": "yolo_multitask.model",
        "Results": "yolo_multitask.engine.results",
        "register": "yolo_multitask.host",
    }
)


def __getattr__(name: str) -> Any:
    """Import a public name on first use, after registering with Ultralytics."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    _register()
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the lazily imported names too."""
    return sorted({*globals(), *__all__})


def _register() -> None:
    import_module("yolo_multitask.host").register()


if "ultralytics" in sys.modules:
    _register()
