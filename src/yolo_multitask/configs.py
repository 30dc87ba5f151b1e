"""Where the YAML files of this package are.

They stand in `configs/` of a checkout and in `yolo_multitask/configs/` of an installed wheel. Torch-free.
"""

from __future__ import annotations

import re
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
KINDS = ("models", "datasets", "trackers")


def config_root() -> Path:
    """Return the folder that holds `models/`, `datasets/` and `trackers/`.

    Raises:
        FileNotFoundError: If the installation lacks it.
    """
    for root in (_PACKAGE / "configs", _PACKAGE.parents[1] / "configs"):
        if (root / "models").is_dir():
            return root
    raise FileNotFoundError(f"No configs folder beside {_PACKAGE}; reinstall yolo-multitask.")


def config_names(kind: str) -> list[str]:
    """Return the names of the YAML files of a kind (`models`, `datasets` or `trackers`), sorted."""
    return sorted(p.name for p in (config_root() / kind).glob("*.yaml"))


def resolve_yaml(name: str | Path, kind: str) -> Path | None:
    """Return the path of a YAML file.

    Args:
        name: An existing file, or the bare name of a file of this package, found from any folder. A model name may
            carry a scale letter (`yolov8n-multitask.yaml` is `yolov8-multitask.yaml`, `multitaskn.yaml` is
            `multitask.yaml`), a data set name may lack its suffix.
        kind: `models`, `datasets` or `trackers`.

    Returns:
        The path, or None if the file does not exist and this package has none of that name.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.name != str(name):
        return None
    bare = path.name if path.suffix in (".yaml", ".yml") else f"{path.name}.yaml"
    unscaled = re.sub(r"(\d+|^multitask)[nslmx](-.+)?\.yaml$", r"\1\2.yaml", bare)
    for candidate in dict.fromkeys((bare, unscaled if kind == "models" else bare)):
        found = config_root() / kind / candidate
        if found.is_file():
            return found
    return None
