"""Prediction: one forward pass and one NMS give boxes, masks, keypoints and identity cues of the same detections.

N detections of an image, K keypoints of D values, h w the network input, H W the original image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ultralytics.models.yolo.detect import DetectionPredictor
from ultralytics.utils import DEFAULT_CFG, ops

from yolo_multitask import host
from yolo_multitask.args import full_cfg, normalise, select_tasks
from yolo_multitask.engine import exported
from yolo_multitask.engine.heads import activate, find_head, find_network, model_tasks
from yolo_multitask.engine.lazy import Detected, detect, is_lazy
from yolo_multitask.engine.masks import assemble
from yolo_multitask.engine.results import Results
from yolo_multitask.tasks import TASK, RowLayout


class MultiTaskPredictor(DetectionPredictor):
    """Predictor of `MultiTaskModel`.

    Every row that the NMS keeps carries all values of its detection, so that the fields of a `Results` are aligned.
    Unlike the host's segmentation predictor it keeps detections whose mask is empty: switching masks on or off changes
    nothing else.

    Attributes:
        tasks: Tasks computed in the current run, set from the model and the switches when a run starts.
        layout: Where the values of a row stand for them.
    """

    def __init__(
        self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict[str, Any] | None = None
    ) -> None:
        """Build the predictor; `overrides` may hold the switches `segment`, `pose` and `track`.

        Raises:
            ValueError: If a switch has a wrong type.
        """
        super().__init__(full_cfg(cfg), {**normalise(overrides), "task": TASK}, _callbacks)
        self.tasks: tuple[str, ...] = ("detect",)
        self.layout = RowLayout(nc=0)

    def setup_model(self, model: Any, verbose: bool = True) -> None:
        """Set up the model; see the host. The next images are then read in a thread, on a CPU too."""
        super().setup_model(model, verbose)
        exported.adopt(self.model, model or self.args.model)
        self.model.prefetch = True

    def setup_source(self, source: Any, stride: int | None = None) -> None:
        """Set up the source and the tasks of this run; the host calls this once per run, with the arguments set.

        Raises:
            ValueError: If a switch asks for a task that the model does not have.
        """
        super().setup_source(source, stride)
        self.args.task = TASK
        switches = getattr(self.args, "switches", None) or {}
        self.tasks = select_tasks(switches, model_tasks(self.model), f"model '{self.args.model}'")
        self.layout = activate(self.model, self.tasks)
        exported.warn_of_nms(self.model, self.args)

    def inference(self, im: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the network; lazily where that is cheaper, with its NMS in it, see `engine.lazy`.

        Args:
            im: Network input (B, C, h, w).
            *args: The host's.
            **kwargs: The host's.

        Returns:
            What the model gives, or `Detected`.
        """
        head = find_head(self.model)
        if head is None or not self._is_lazy():
            return super().inference(im, *args, **kwargs)
        head.lazy = True
        try:
            scores, maps = super().inference(im, *args, **kwargs)
        finally:
            head.lazy = False
        return detect(
            head,
            scores,
            maps,
            conf=self.args.conf,
            iou_thres=self.args.iou,
            classes=self.args.classes,
            margin=self._pixel(im) if self.args.retina_masks else 0.0,
            agnostic=self.args.agnostic_nms,
            max_det=self.args.max_det,
        )

    def _pixel(self, im: torch.Tensor) -> float:
        """Return how many pixels of the network input (B, C, h, w) a pixel of an original image has at most."""
        originals = self.batch[1]
        shapes = [originals.shape[2:]] if isinstance(originals, torch.Tensor) else [x.shape[:2] for x in originals]
        return max(max(im.shape[2:]) / max(shape) for shape in shapes)

    def _is_lazy(self) -> bool:
        """Return whether to run lazily: never where the host needs all outputs or collects features at the NMS."""
        whole = self.args.augment or self.args.embed or self.args.visualize or host.collects_features(self)
        return not whole and is_lazy(self.args, self.device)

    def postprocess(self, preds: Any, img: torch.Tensor, orig_imgs: Any, **kwargs: Any) -> list[Results]:
        """Turn the model's output into results; one NMS for all tasks.

        Args:
            preds: `Detected`; or `[y, raw]`, or `[(y, proto), raw]` with masks; what an exported file gives.
            img: Network input (B, C, h, w).
            orig_imgs: The images (H, W, C), or the tensor (B, C, H, W) that the user passed.
            **kwargs: `iou` overrides the NMS threshold of a dense pass, as in the host.

        Returns:
            One result per image, in original pixels.
        """
        if isinstance(preds, Detected):
            if not isinstance(orig_imgs, list):
                orig_imgs = ops.convert_torch2numpy_batch(orig_imgs)[..., ::-1]
            return self.construct_results(preds.rows, img, orig_imgs, preds.proto)
        if self.model.format != "pt":
            rows, kwargs["protos"] = exported.read_outputs(self.model, preds)
        else:
            rows = preds[0]
            if self.layout.nm:
                rows, kwargs["protos"] = rows
        return super().postprocess(rows, img, orig_imgs, **kwargs)  # type: ignore[no-any-return]

    def construct_results(
        self, preds: Sequence[torch.Tensor], img: torch.Tensor, orig_imgs: Sequence[Any], protos: Any = None
    ) -> list[Results]:
        """Return one result per image.

        Args:
            preds: Rows after NMS, (N, 6 + extra) each.
            img: Network input (B, C, h, w).
            orig_imgs: Images (H, W, C).
            protos: Prototypes (B, nm, h/4, w/4), or None without masks.
        """
        each = [None] * len(preds) if protos is None else protos
        return [
            self.construct_result(pred, img, orig_img, path, proto)
            for pred, orig_img, path, proto in zip(preds, orig_imgs, self.batch[0], each, strict=False)
        ]

    def construct_result(
        self, pred: torch.Tensor, img: torch.Tensor, orig_img: Any, img_path: str, proto: torch.Tensor | None = None
    ) -> Results:
        """Return the result of one image; without detections its fields are empty, not None.

        Args:
            pred: Rows after NMS (N, 6 + extra), boxes and keypoints in input pixels.
            img: Network input (B, C, h, w).
            orig_img: Image (H, W, C).
            img_path: Its path.
            proto: Prototypes (nm, h/4, w/4), or None without masks.
        """
        layout, shape = self.layout, img.shape[2:]
        boxes = pred[:, :6].clone()
        boxes[:, :4] = ops.scale_boxes(shape, boxes[:, :4], orig_img.shape)
        masks = keypoints = embeddings = next_boxes = None
        if proto is not None and "segment" in self.tasks:
            factors = exported.mask_factors(self.model, pred, layout, proto)
            if self.args.retina_masks:
                masks = factors.process(ops.process_mask_native, boxes[:, :4], shape=orig_img.shape[:2])
            else:
                masks = assemble(factors, pred[:, :4], tuple(shape))
        if layout.nk and "pose" in self.tasks:
            points = pred[:, layout.kpt].reshape(len(pred), *self.model.kpt_shape).clone()
            keypoints = self.hide_absent(ops.scale_coords(shape, points, orig_img.shape), boxes[:, 5])
        if layout.ne and "track" in self.tasks:
            embeddings = pred[:, layout.embed]
        if layout.nb and "track" in self.tasks:
            next_boxes = scale_unclipped(shape, pred[:, layout.next], orig_img.shape)
        return Results(
            orig_img,
            path=img_path,
            names=self.model.names,
            boxes=boxes,
            masks=masks,
            keypoints=keypoints,
            embeddings=embeddings,
            next_boxes=next_boxes,
        )

    def hide_absent(self, keypoints: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Zero the keypoints (N, K, D) of `classes` (N,) that have none, where the model names its `kpt_classes`."""
        with_keypoints = getattr(find_network(self.model), "kpt_classes", None)
        if with_keypoints is not None:
            keypoints[~torch.isin(classes.long(), torch.as_tensor(list(with_keypoints), device=classes.device))] = 0
        return keypoints


def scale_unclipped(shape: Sequence[int], boxes: torch.Tensor, orig_shape: Sequence[int]) -> torch.Tensor:
    """Return boxes (N, 4) x1 y1 x2 y2 of the network input (h, w) in pixels of the original image (H, W).

    The host clips corners to the image, not centres and sizes; a box that leaves the image must keep its size.
    """
    scaled = ops.scale_boxes(tuple(shape), ops.xyxy2xywh(boxes), tuple(orig_shape), xywh=True)
    return ops.xywh2xyxy(scaled)  # type: ignore[no-any-return]
