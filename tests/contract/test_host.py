"""The seams of Ultralytics that this package stands on. A failure names the seam that moved."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import torch
import ultralytics
from ultralytics import cfg
from ultralytics.engine.model import Model
from ultralytics.engine.results import Results as HostResults
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.engine.validator import BaseValidator
from ultralytics.models.yolo.detect import DetectionPredictor, DetectionTrainer, DetectionValidator
from ultralytics.nn import tasks
from ultralytics.nn.modules.head import Detect, Pose, Segment
from ultralytics.utils.loss import KeypointLoss, v8DetectionLoss, v8SegmentationLoss

from yolo_multitask import host


def parameters(function: object) -> set[str]:
    """Return the parameter names of a function."""
    return set(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_version_is_supported() -> None:
    assert host.version_supported(), f"Ultralytics {ultralytics.__version__} is outside {host.SUPPORTED}"


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (Detect, {"one2many", "forward_head", "_inference", "bias_init", "decode_bboxes", "_get_decode_boxes"}),
        (tasks.BaseModel, {"load", "loss", "init_criterion", "_remap_cls_by_names", "is_fused", "fuse"}),
        (tasks.DetectionModel, {"set_head_attr", "end2end"}),
        (v8DetectionLoss, {"get_assigned_targets_and_loss", "preprocess", "bbox_decode"}),
        (v8SegmentationLoss, {"single_mask_loss"}),
        (BaseTrainer, {"get_dataset", "setup_model", "run_callbacks", "save_model", "_build_train_pipeline"}),
        (
            DetectionTrainer,
            {
                "build_dataset",
                "get_class_counts",
                "plot_training_labels",
                "set_model_names_for_load",
                "set_model_attributes",
            },
        ),
        (DetectionValidator, {"_check_max_det", "_prepare_batch", "_process_batch", "get_dataloader", "scale_preds"}),
        (BaseValidator, {"match_predictions", "get_model"}),
        (DetectionPredictor, {"postprocess", "construct_results", "construct_result", "get_obj_feats"}),
        (Model, {"_new", "_load", "_smart_load", "_reset_ckpt_args", "_check_is_pytorch_model"}),
        (HostResults, {"new", "update", "_apply", "save_txt"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_seam_exists(owner: type, names: set[str]) -> None:
    missing = {n for n in names if not hasattr(owner, n)}
    assert not missing, (
        f"ultralytics {ultralytics.__version__} moved {owner.__module__}.{owner.__name__}: {sorted(missing)}"
    )


def test_signatures() -> None:
    assert {"nc", "reg_max", "end2end", "ch"} <= parameters(Detect.__init__), "Detect.__init__"
    assert parameters(v8SegmentationLoss.single_mask_loss) == {"gt_mask", "pred", "proto", "xyxy", "area"}
    assert parameters(KeypointLoss.forward) == {"self", "pred_kpts", "gt_kpts", "kpt_mask", "area"}
    assert {"cfg", "overrides"} <= parameters(cfg.get_cfg), "get_cfg"
    assert parameters(BaseTrainer.__init__) == {"self", "cfg", "overrides", "_callbacks"}


def test_registry_tables_are_mutable_dicts() -> None:
    for name in ("TASK2DATA", "TASK2CALIBRATIONDATA", "TASK2METRIC"):
        assert isinstance(getattr(cfg, name), dict), f"ultralytics.cfg.{name} is no longer a dict"


def test_parser_still_needs_a_head_of_its_own() -> None:
    """If the host's parser accepted any class as a head, building with a plain `Detect` first would no longer be
    needed.
    """
    from ultralytics.nn.modules.head import Detect as HostDetect

    source = inspect.getsource(tasks.parse_model)
    assert "args.extend([reg_max, end2end, [ch[x] for x in f]])" in source
    assert HostDetect.__name__ in source


def test_stock_heads_keep_their_branch_name() -> None:
    for head in (Segment(nc=1, ch=(16, 16, 16)), Pose(nc=1, ch=(16, 16, 16))):
        assert isinstance(head.cv4, torch.nn.ModuleList), f"{type(head).__name__}.cv4"
        assert len(head.cv4[0]) == 3


def test_loss_items_are_a_dict_by_name() -> None:
    source = inspect.getsource(BaseTrainer)
    assert "tuple(self.loss_items)" in source, "the trainer no longer derives loss names from the criterion's dict"


ORDERS = {
    "host first": "import ultralytics; import yolo_multitask",
    "ours first": "import yolo_multitask; import ultralytics; yolo_multitask.MultiTaskYOLO",
    "twice": "import ultralytics, yolo_multitask; yolo_multitask.register(); yolo_multitask.register()",
    "lazy": "from yolo_multitask import MultiTaskYOLO",
}


@pytest.mark.parametrize("order", list(ORDERS))
def test_registration_in_either_order_and_twice(order: str) -> None:
    code = (
        "import ultralytics.cfg as c; before = {k: dict(getattr(c, k)) for k in ('TASK2DATA', 'TASK2METRIC')};"
        if order == "host first"
        else ""
    )
    code += ORDERS[order]
    code += (
        "; from yolo_multitask import host; assert host.is_registered();"
        "import ultralytics.cfg as c; assert c.TASK2DATA['multitask'] == 'coco8-multitask.yaml';"
        "assert c.TASK2METRIC['detect'] == 'metrics/mAP50-95(B)'"
    )
    if order == "host first":
        code += (
            "; assert all(dict(getattr(c, k)) == {**v, 'multitask': getattr(c, k)['multitask']}"
            " for k, v in before.items())"
        )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_of_the_host_is_rebound() -> None:
    """Importing this package leaves every public and private name of the host's modules as it was."""
    code = (
        "import sys, ultralytics, ultralytics.engine.exporter, ultralytics.models.yolo, ultralytics.utils.loss;"
        "mods = {n: dict(vars(m)) for n, m in sys.modules.items() if n.startswith('ultralytics')};"
        "from yolo_multitask import MultiTaskYOLO; MultiTaskYOLO('yolov8n-multitask.yaml');"
        "changed = [(n, k) for n, d in mods.items() for k, v in d.items() if vars(sys.modules[n]).get(k) is not v];"
        "classes = [k for k in changed if not k[1].startswith('__')]; assert not classes, classes"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
