"""The files that validation writes its predictions to, and the reference evaluation that reads them.

N predictions of an image, K keypoints of D values, h w the network input, H W the original image.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils import ops

from yolo_multitask.data.convert.rle import encode_rle
from yolo_multitask.engine import coco
from yolo_multitask.engine.results import Results
from yolo_multitask.engine.scaling import original_keypoints


class PredictionFiles(DetectionValidator):
    """The part of `MultiTaskValidator` that writes label files (`save_txt`) and COCO entries (`save_json`).

    Attributes:
        tasks: Tasks that are validated.
        sigmas: Spread of each keypoint, None without `pose`.
        kpt_classes: Classes that have keypoints.
    """

    tasks: tuple[str, ...]
    sigmas: NDArray[Any] | None
    kpt_classes: list[int]
    image_root = Path()

    def find_image_root(self) -> None:
        """Note the folder that all images are in, so that files of images of the same name can be told apart."""
        self.image_root = Path(os.path.commonpath([Path(f).resolve().parent for f in self.dataloader.dataset.im_files]))

    def has_keypoints(self, classes: torch.Tensor) -> torch.Tensor:
        """Return which of the predicted classes (N,) have keypoints, bool (N,)."""
        if self.args.single_cls:
            return torch.ones_like(classes, dtype=torch.bool)
        return torch.isin(classes.long(), torch.tensor(self.kpt_classes, dtype=torch.long, device=classes.device))

    def save_files(self, predn: dict[str, torch.Tensor], pbatch: dict[str, Any]) -> None:
        """Write the predictions of one image to the files that were asked for."""
        scaled = self.scale_preds(predn, pbatch)
        if self.args.save_json:
            self.pred_to_json(scaled, pbatch)
        if self.args.save_txt:
            path = Path(pbatch["im_file"]).resolve()
            name = "_".join(path.relative_to(self.image_root).with_suffix("").parts)  # a/1.jpg is a_1.txt, b/1.jpg b_1
            self.save_one_txt(
                scaled, self.args.save_conf, pbatch["ori_shape"], self.save_dir / "labels" / f"{name}.txt"
            )

    def scale_preds(self, predn: dict[str, torch.Tensor], pbatch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the predictions of one image in original pixels, masks (N, H, W)."""
        scaled: dict[str, torch.Tensor] = super().scale_preds(predn, pbatch)
        shape, ratio_pad = pbatch["ori_shape"], pbatch["ratio_pad"]
        if "masks" in predn:
            scaled["masks"] = ops.scale_masks(predn["masks"][None], shape, ratio_pad=ratio_pad)[0].byte()
        if "keypoints" in predn:
            scaled["keypoints"] = original_keypoints(predn["keypoints"], pbatch)
        return scaled

    def save_one_txt(self, predn: dict[str, torch.Tensor], save_conf: bool, shape: tuple[int, int], file: Path) -> None:
        """Append the predictions of one image, in original pixels, to a label file in this package's grammar."""
        Results(
            np.zeros(tuple(shape[:2]), dtype=np.uint8),
            path=None,
            names=self.names,
            boxes=torch.cat([predn["bboxes"], predn["conf"][:, None], predn["cls"][:, None]], dim=1),
            masks=predn.get("masks"),
            keypoints=predn.get("keypoints"),
        ).save_txt(file, save_conf=save_conf)

    def pred_to_json(self, predn: dict[str, torch.Tensor], pbatch: dict[str, Any]) -> None:
        """Add one COCO entry per prediction: `bbox`, with masks `segmentation` (RLE), with pose `keypoints` (3 K)."""
        super().pred_to_json(predn, pbatch)
        entries = self.jdict[len(self.jdict) - len(predn["cls"]) :]
        if "masks" in predn:
            for entry, mask in zip(entries, predn["masks"].cpu().numpy(), strict=True):
                entry["segmentation"] = encode_rle(mask)
        if "keypoints" in predn:
            points = predn["keypoints"]
            if points.shape[2] == 2:
                points = torch.cat((points, torch.ones_like(points[..., :1])), 2)
            there = self.has_keypoints(predn["cls"]).tolist()
            for entry, has, values in zip(entries, there, points.flatten(1).tolist(), strict=True):
                if has:
                    entry["keypoints"] = [round(v, 3) for v in values]

    def eval_json(self, stats: dict[str, Any]) -> dict[str, Any]:
        """Add the reference evaluation, `metrics/COCO-AP(B)` and so on, where the data YAML names `annotations`.

        `annotations: {val: {instances: path, keypoints: path}}`, relative to the data's `path`; COCO has its own names.
        """
        files = dict((self.data.get("annotations") or {}).get(self.args.split) or {})
        if self.is_coco:
            files = {
                "instances": "annotations/instances_val2017.json",
                "keypoints": "annotations/person_keypoints_val2017.json",
                **files,
            }
        if files:
            paths = {k: Path(self.data["path"]) / v for k, v in files.items()}
            images = self.dataloader.dataset.im_files
            tasks = [t for t in self.tasks if t in coco.KINDS]
            stats.update(coco.evaluate(self.jdict, paths, tasks, images, self.sigmas))
        return stats
