"""The seams of Ultralytics that this package stands on. A failure names the seam that moved."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import ultralytics
from PIL import Image
from ultralytics import cfg
from ultralytics.data import utils as data_utils
from ultralytics.data.augment import (
    Albumentations,
    BaseMixTransform,
    CopyPaste,
    CutMix,
    Format,
    Mosaic,
    RandomFlip,
    RandomPerspective,
)
from ultralytics.data.base import BaseDataset
from ultralytics.data.build import InfiniteDataLoader, build_dataloader
from ultralytics.data.converter import merge_multi_segment
from ultralytics.data.dataset import YOLODataset
from ultralytics.engine.model import Model
from ultralytics.engine.predictor import BasePredictor
from ultralytics.engine.results import Results as HostResults
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.engine.validator import BaseValidator
from ultralytics.models.yolo.detect import DetectionPredictor, DetectionTrainer, DetectionValidator
from ultralytics.nn import tasks
from ultralytics.nn.modules.head import Detect, Pose, Segment
from ultralytics.utils.instance import Instances
from ultralytics.utils.loss import E2ELoss, KeypointLoss, PoseLoss26, v8DetectionLoss, v8SegmentationLoss
from ultralytics.utils.tal import PoseTaskAlignedAssigner
from ultralytics.utils.torch_utils import ModelEMA

from yolo_multitask import host
from yolo_multitask.tasks import DEFAULT_MODEL


def parameters(function: object) -> set[str]:
    """Return the parameter names of a function."""
    return set(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_version_is_supported() -> None:
    assert host.version_supported(), f"Ultralytics {ultralytics.__version__} is outside {host.SUPPORTED}"


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (Detect, {"one2many", "forward_head", "_inference", "bias_init", "decode_bboxes", "_get_decode_boxes"}),
        (Detect, {"one2one", "end2end", "postprocess", "get_topk_index", "fuse"}),
        (E2ELoss, {"update", "decay"}),
        (PoseLoss26, {"calculate_rle_loss"}),
        (PoseTaskAlignedAssigner, {"select_candidates_in_gts", "get_box_metrics", "pair_overlaps", "forward"}),
        (tasks.BaseModel, {"load", "loss", "init_criterion", "_remap_cls_by_names", "is_fused", "fuse"}),
        (tasks.DetectionModel, {"set_head_attr", "end2end"}),
        (v8DetectionLoss, {"get_assigned_targets_and_loss", "preprocess", "bbox_decode"}),
        (v8SegmentationLoss, {"single_mask_loss"}),
        (
            BaseTrainer,
            {
                "get_dataset",
                "setup_model",
                "run_callbacks",
                "save_model",
                "check_resume",
                "resume_training",
                "optimizer_step",
                "_setup_train",
                "_build_train_pipeline",
                "_model_train",
            },
        ),
        (
            DetectionTrainer,
            {
                "build_dataset",
                "get_dataloader",
                "get_class_counts",
                "plot_training_labels",
                "set_model_names_for_load",
                "set_model_attributes",
            },
        ),
        (
            DetectionValidator,
            {
                "_check_max_det",
                "_prepare_batch",
                "_prepare_pred",
                "_gather_image_metrics",
                "gather_stats",
                "init_metrics",
                "get_dataloader",
                "scale_preds",
                "pred_to_json",
            },
        ),
        (BaseValidator, {"match_predictions", "get_model"}),
        (DetectionPredictor, {"setup_source", "postprocess", "construct_results", "construct_result"}),
        (DetectionPredictor, {"get_obj_feats"}),
        (BaseDataset, {"get_labels", "update_labels", "get_image_and_label"}),
        (YOLODataset, {"format_class", "build_transforms", "collate_fn", "get_labels", "cache_labels"}),
        (RandomPerspective, {"apply_instances", "box_candidates"}),
        (BaseMixTransform, {"get_params", "apply_instances", "get_indexes"}),
        (Mosaic, {"_cat_labels"}),
        (RandomFlip, {"get_params", "apply_instances"}),
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
    assert parameters(BaseTrainer._setup_train) == {"self"}
    assert parameters(BaseTrainer.check_resume) == {"self", "overrides"}
    assert parameters(BaseTrainer.resume_training) == {"self", "ckpt"}
    assert parameters(BasePredictor.setup_source) == {"self", "source", "stride"}
    assert parameters(DetectionValidator._gather_image_metrics) == {"self", "metric"}
    assert parameters(DetectionValidator._prepare_pred) == {"self", "pred"}
    assert parameters(DetectionValidator._check_max_det) == {"args", "datasets"}
    assert parameters(BaseTrainer.optimizer_step) == {"self"}
    assert {"self", "dataset_path", "batch_size", "rank", "mode"} == parameters(DetectionTrainer.get_dataloader)
    given = {"dataset", "batch", "workers", "shuffle", "rank", "drop_last", "device"}
    assert given <= parameters(build_dataloader), "build_dataloader"
    assert parameters(Mosaic._cat_labels) == {"self", "mosaic_labels"}
    for transform in (RandomPerspective, CutMix, CopyPaste, RandomFlip, Format):
        assert parameters(transform.get_params) == {"self", "labels"}, transform.__name__
        assert parameters(transform.apply_instances) == {"self", "labels", "params"}, transform.__name__


def sample() -> dict[str, Any]:
    """Return a 64 x 64 picture with one instance of two class columns in its middle."""
    instances = Instances(
        np.array([[0.4, 0.4, 0.6, 0.6]], np.float32),
        np.array([[[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]]], np.float32),
        np.full((1, 2, 3), 0.5, np.float32),
        bbox_format="xyxy",
        normalized=True,
    )
    return {"img": np.zeros((64, 64, 3), np.uint8), "cls": np.zeros((1, 2), np.float32), "instances": instances}


def pixels() -> dict[str, Any]:
    """Return `sample` in pixels."""
    labels = sample()
    labels["instances"].denormalize(64, 64)
    return labels


class OneSample:
    """A data set whose every picture is `sample` in pixels."""

    data: ClassVar[dict[str, Any]] = {}
    buffer = (0,)
    cache = False

    def __len__(self) -> int:
        return 1

    def get_image_and_label(self, index: int) -> dict[str, Any]:
        return pixels()


def test_perspective_moves_whatever_instances_it_is_given() -> None:
    """`MultiTaskPerspective` hands the same parameters to two disjoint parts of the instances."""
    transform, labels = RandomPerspective(translate=0, scale=0), sample()
    params = transform.get_params(labels)
    assert {"M", "scale", "orig_shape", "size"} <= set(params)
    moved = transform.apply_instances({"cls": labels["cls"], "instances": labels["instances"]}, params)
    assert {"cls", "instances"} <= set(moved)
    assert moved["cls"].shape == (1, 2)


def test_cutmix_parameters() -> None:
    np.random.seed(0)
    transform = CutMix(OneSample(), p=1.0)
    for _ in range(50):
        labels = {**pixels(), "mix_labels": []}
        labels["instances"] = labels["instances"][:0]  # nothing in the way of the pasted area
        labels["cls"] = labels["cls"][:0]
        params = transform.get_params(labels)
        if not params.get("skip"):
            break
    assert {"mix_labels", "area", "indexes2"} <= set(params)
    assert params["area"].shape == (4,)
    assert list(params["indexes2"]) == [0]
    assert len(labels["mix_labels"]) == 1


@pytest.mark.parametrize("mode", ["flip", "mixup"])
def test_copy_paste_parameters(mode: str) -> None:
    transform, labels = CopyPaste(OneSample(), p=1.0, mode=mode), pixels()
    labels["instances"].bboxes[:, [0, 2]] -= 24  # away from its mirror image
    params = transform.get_params(labels)
    assert {"instances", "instances2", "selected", "labels2_cls"} <= set(params)
    assert (params["labels2_cls"] is None) == (mode == "flip")
    assert list(params["selected"]) == [0]
    pasted = transform.apply_instances(labels, params)
    assert len(pasted["cls"]) == len(pasted["instances"]) == 2


@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
def test_flip_parameters(direction: str) -> None:
    for p in (0.0, 1.0):
        params = RandomFlip(p=p, direction=direction).get_params(pixels())
        assert (params["flip"], params["direction"]) == (bool(p), direction)


def test_mosaic_concatenates_before_it_clips() -> None:
    """`MultiTaskMosaic` asks what the border will cut while the boxes are whole and in pixels of the mosaic."""
    labels = {**pixels(), "im_file": "a.jpg", "ori_shape": (64, 64), "resized_shape": (64, 64)}
    labels["instances"].bboxes[0] = [100, 20, 140, 60]
    merged = Mosaic(OneSample(), imgsz=64)._cat_labels([labels])
    assert merged["instances"].bboxes.tolist() == [[100, 20, 128, 60]]
    assert merged["cls"].shape == (1, 2)


@pytest.mark.parametrize(("name", "spatial"), [("HorizontalFlip", True), ("Blur", False)])
def test_albumentations_says_whether_it_moves_pixels(name: str, spatial: bool) -> None:
    import albumentations

    transform = Albumentations(p=1.0, transforms=[getattr(albumentations, name)(p=1.0)])
    assert transform.contains_spatial is spatial


def test_format_parameters() -> None:
    labels = sample()
    transform = Format(return_mask=True, return_keypoint=True)
    params = transform.get_params(labels)
    assert {"h", "w", "cls", "instances"} <= set(params)
    assert (params["h"], params["w"]) == (64, 64)
    assert params["instances"].bboxes[0] == pytest.approx([32, 32, 12.8, 12.8], rel=1e-5)
    own = {"return_mask", "return_keypoint", "mask_overlap", "mask_ratio", "normalize", "batch_idx"}
    assert own <= set(vars(transform))


def test_data_functions(tmp_path: Path) -> None:
    """What `data/` takes from `ultralytics.data.utils` and the host's converter, by what it does."""
    square = np.array([[[0, 0], [0, 8], [8, 8], [8, 0]]], np.float32)
    masks, order = data_utils.polygons2masks_overlap((16, 16), square, downsample_ratio=2)
    assert (masks.shape, list(order), masks.max()) == ((8, 8), [0], 1)
    assert data_utils.polygons2masks((16, 16), square, color=1, downsample_ratio=2).shape == (1, 8, 8)
    image = tmp_path / "images" / "a.png"
    image.parent.mkdir()
    Image.new("RGB", (20, 12)).save(image)
    assert data_utils.check_image(str(image)) == ("", (12, 20))
    assert data_utils.img2label_paths([str(image)]) == [str(tmp_path / "labels" / "a.txt")]
    assert data_utils.exif_size(Image.open(image)) == (20, 12)
    assert {"jpg", "png"} <= set(data_utils.IMG_FORMATS)
    assert data_utils.get_split_fraction(0.5, "train") == 0.5
    np.save(tmp_path / "a.npy", np.array({"version": 1}, dtype=object), allow_pickle=True)
    assert data_utils.load_dataset_cache_file(tmp_path / "a.npy") == {"version": 1}
    assert {"dataset", "autodownload"} <= parameters(data_utils.check_det_dataset)
    parts = [square[0] + 2, square[0] + 20]
    assert len(np.concatenate(merge_multi_segment(parts))) >= 8


def test_every_data_function_in_use_is_tested_here() -> None:
    data = Path(host.__file__).parent / "data"
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in data.rglob("*.py")]
    used = {
        alias.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "ultralytics.data.utils"
        for alias in node.names
    }
    tested = set(test_data_functions.__code__.co_names)
    assert used - tested == set()


def test_loader_that_is_built_anew_with_another_sampler() -> None:
    """`build_train_dataloader` takes the settings of the host's loader; epochs end by the length of the sampler."""
    dataset = torch.utils.data.TensorDataset(torch.arange(5))
    dataset.collate_fn = lambda batch: [int(x) for (x,) in batch]
    loader = build_dataloader(dataset, 2, 0, shuffle=True, rank=-1, drop_last=False, device="cpu")
    assert isinstance(loader, InfiniteDataLoader)
    taken = {"num_workers", "prefetch_factor", "pin_memory", "pin_memory_device", "collate_fn", "worker_init_fn"}
    assert {name for name in {*taken, "generator"} if not hasattr(loader, name)} == set()
    calls: list[int] = []

    class Ordered(torch.utils.data.Sampler):
        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Any:
            calls.append(len(calls))
            return iter([4, 0, 4])

    own = InfiniteDataLoader(
        dataset=dataset, batch_size=2, sampler=Ordered(), num_workers=0, collate_fn=loader.collate_fn
    )
    assert [list(own) for _ in range(2)] == [[[4, 0], [4]]] * 2
    assert calls == [0, 1], "an iteration of the sampler is an epoch"


class FrozenTrainer:
    """What the host's `_model_train` looks at."""

    def __init__(self, names: list[str]) -> None:
        self.freeze_layer_names = [f"model.{name}." for name in names]
        self.model = torch.nn.Module()
        layer = torch.nn.ModuleDict({k: torch.nn.Sequential(torch.nn.BatchNorm2d(1)) for k in ("cv2", "branches")})
        self.model.model = torch.nn.Sequential(torch.nn.BatchNorm2d(1), layer)


def test_frozen_parts_are_named_down_to_a_layer_of_the_head() -> None:
    """`freeze=trunk` names parts as `1.cv2`; their BatchNorm statistics must stand still too."""
    source = inspect.getsource(BaseTrainer._setup_train)
    assert "isinstance(self.args.freeze, list)" in source
    assert 'freeze_layer_names = [f"model.{x}." for x in freeze_list]' in source
    assert (
        source.index("self.setup_model()") < source.index("self.set_model_attributes()") < source.index("freeze_list")
    )
    trainer = FrozenTrainer(["0", "1.cv2"])
    BaseTrainer._model_train(trainer)
    training = {n: m.training for n, m in trainer.model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    # the host compares with `model.0.`, so what is frozen must be inside the named layer
    assert training == {"model.0": True, "model.1.cv2.0": False, "model.1.branches.0": True}


def test_average_of_the_weights() -> None:
    """`optimizer_step` copies frozen weights into the average; it holds every tensor under the model's own name."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    ema = ModelEMA(model)
    assert ema.ema.state_dict().keys() == model.state_dict().keys()
    state = {k: v.data_ptr() for k, v in ema.ema.state_dict().items()}
    ema.update(model)
    assert {k: v.data_ptr() for k, v in ema.ema.state_dict().items()} == state, "it is changed in place"


def test_results_fields_are_named_by_a_tuple() -> None:
    result = HostResults(np.zeros((8, 8, 3), np.uint8), path="", names={}, boxes=torch.zeros(2, 6))
    assert {"boxes", "masks", "keypoints"} <= set(result._keys)
    host.add_result_field(result, "extra")
    result.extra = torch.arange(2)[:, None]
    assert "extra" in result._keys
    assert result[1].boxes.data.shape == (1, 6)
    assert "extra" not in HostResults(result.orig_img, path="", names={})._keys


@pytest.mark.parametrize(
    ("version", "supported"),
    [
        ("8.4.179", False),
        ("8.4.180", True),
        ("8.4.180rc1", True),
        ("8.4.190+cu118", True),
        ("8.4.1000", True),
        ("8.5", False),
        ("8.5.0rc1", False),
        ("8.10.0", False),
        ("9.0", False),
    ],
)
def test_versions(monkeypatch: pytest.MonkeyPatch, version: str, supported: bool) -> None:
    monkeypatch.setattr(host, "HOST_VERSION", version)
    assert host.version_supported() is supported


def test_defaults_of_stock_tasks() -> None:
    assert host.default_model("pose") == cfg.TASK2MODEL["pose"]
    assert host.default_model(None) == host.default_model("multitask") == DEFAULT_MODEL
    assert host.default_data("pose") == cfg.TASK2DATA["pose"]
    assert host.default_data("multitask") == "coco8-multitask.yaml"
    assert host.default_data("nothing") is None


def test_registry_tables_are_mutable_dicts() -> None:
    for name in ("TASK2DATA", "TASK2CALIBRATIONDATA", "TASK2METRIC", "TASK2MODEL"):
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


def test_masks_take_part_in_the_assignment_as_here() -> None:
    assigner = host.mask_assigner()
    if assigner is None:
        pytest.skip("this Ultralytics does not assign by masks")
    wanted = {"scores", "labels", "pd_coef", "mask_scale", "proto", "gt_masks"}
    assert wanted <= parameters(assigner.pair_overlaps)
    assert {"pd_kpts", "gt_kpts"} <= parameters(PoseTaskAlignedAssigner.pair_overlaps)


def test_two_heads_have_the_weights_that_the_schedule_sets() -> None:
    class Loss:
        hyp = type("Args", (), {"epochs": 5})

        def __init__(self, _: object, tal_topk: int, tal_topk2: int | None = None) -> None:
            self.topk = (tal_topk, tal_topk2)

    schedule = E2ELoss(None, Loss)
    assert (schedule.one2many.topk, schedule.one2one.topk) == ((10, None), (7, 1))
    assert (schedule.o2m, schedule.updates) == (0.8, 0)
    schedule.update()
    assert schedule.updates == 1
    assert schedule.o2m + schedule.o2o == pytest.approx(1.0)
    assert schedule.o2m < 0.8
