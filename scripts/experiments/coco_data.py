"""What the experiments on a few COCO images share: their labels as a multitask set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolo_multitask.data.convert.coco import convert_coco


def make_data(root: Path, out: Path, **given: Any) -> Path:
    """Convert `coco-mini` in `root` to label lines, unless that is done; return the data YAML.

    Args:
        root: Folder with coco-mini/.
        out: Folder of the set.
        **given: Further arguments of the converter.
    """
    if not (out / "data.yaml").exists():
        mini = root / "coco-mini"
        for split in ("train", "val"):
            convert_coco(
                instances=mini / "annotations" / f"instances_{split}.json",
                keypoints=mini / "annotations" / f"person_keypoints_{split}.json",
                images=mini / "images" / split,
                out=out,
                split=split,
                **given,
            )
    return out / "data.yaml"
