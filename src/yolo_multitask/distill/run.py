"""`ymt distill` from the first check to the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.utils import LOGGER, RUNS_DIR
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.torch_utils import select_device

from yolo_multitask.data.config import load_data
from yolo_multitask.distill.embedder import CropEmbedder
from yolo_multitask.distill.held_out import write_held_out
from yolo_multitask.distill.labelling import Labeller
from yolo_multitask.distill.report import DistillReport, compare, costs, measure, teachers_measured
from yolo_multitask.distill.settings import Settings, read_settings
from yolo_multitask.distill.source import hold_out, list_pictures
from yolo_multitask.distill.teachers import check_together, fingerprint, load_teachers, order_teachers, union_names
from yolo_multitask.distill.trainer import DistillTrainer, build_student
from yolo_multitask.nn.network import network_of


def distill(model: Any, **given: Any) -> DistillReport:
    """Train a model on what other networks see, and compare it with them.

    Args:
        model: A `MultiTaskYOLO` of this package's models; it is trained in place.
        **given: The settings of `Settings`, the teachers by task, and the arguments of a training.

    Raises:
        ValueError: If a setting, teacher or source does not fit; says why.
        FileNotFoundError: If there is no such file.
    """
    settings, arguments = read_settings(given)
    settings = replace(settings, lessons=settings.lessons or str(RUNS_DIR / "distill" / "lessons"))
    if "imgsz" in arguments:  # as the host's trainer does later, when some views have been looked at already
        arguments["imgsz"] = check_imgsz(arguments["imgsz"], stride=int(model.model.stride.max()), max_dim=1)
    teachers = order_teachers(load_teachers(settings.networks), model.model.yaml, settings.first)
    if (file := settings.teachers.get("reid")) is not None:
        CropEmbedder(file)
    files = list_pictures(settings.source, Path(settings.lessons), settings.frames)
    if not files:
        raise ValueError(f"source={list(settings.source)}: expected images or videos, found none in it.")
    if arguments.get("data") is None:
        data, measured = teachers_truth(model.model.yaml, teachers, files, settings, arguments)
        arguments["data"] = str(data)
        settings, truth = replace(settings, supervised=False), "what the teachers see"
    else:
        data = arguments["data"]
        content = load_data(data, task=arguments.get("label_task"), labels=arguments.get("labels"))
        measured, truth = [f for f in files if f in image_files(content["val"])], "labels"
        build_and_check(model.model.yaml, teachers, content, settings)
    if len(measured) == len(files):
        raise ValueError("source: expected pictures to learn from, found only those that are measured on.")
    LOGGER.info(f"Source: {len(files) - len(measured)} images to learn from, {len(measured)} that are measured on")
    taught = ", ".join(f"{task} from {Path(f).name}" for task, f in settings.teachers.items())
    LOGGER.info(f"Teachers: {taught}; trunk, boxes and classes from {teachers[0].title} to begin with")
    settings = replace(settings, measured=tuple(str(f) for f in measured))
    model.train(trainer=DistillTrainer, distilling=settings.as_dict(), **arguments)
    return report(model, settings, truth, str(data))


def build_and_check(
    config: Mapping[str, Any], teachers: Sequence[Any], data: Mapping[str, Any], settings: Settings
) -> Any:
    """Return a student for the classes and keypoints of the data, checked against its teachers."""
    student = build_student(
        dict(config), list(teachers), dict(data["names"]), dict(data), embeds="reid" in settings.teachers
    )
    check_together(teachers, student)
    return student


def teachers_truth(
    config: Mapping[str, Any],
    teachers: Sequence[Any],
    files: Sequence[Path],
    settings: Settings,
    arguments: Mapping[str, Any],
) -> tuple[Path, list[Path]]:
    """Write a data set of held-out pictures with the teachers' labels; return its data YAML and the pictures."""
    _, measured = hold_out(files, settings.held_out)
    if not measured:
        raise ValueError(
            f"source: expected 5 or more images, as a fifth is measured on, found {len(files)}; pass more, or "
            "data=my.yaml."
        )
    names = union_names(teachers)
    student = build_and_check(config, teachers, {"names": names, "channels": config.get("channels", 3)}, settings)
    device = select_device(arguments.get("device"), verbose=False)
    for teacher in teachers:
        teacher.network.to(device)
    labeller = Labeller(teachers, names, getattr(student, "kpt_shape", None), student.head.reg_max)
    size = int(arguments["imgsz"])
    key = fingerprint(list(settings.networks.values()), size, [str(f) for f in measured])
    folder = Path(settings.lessons) / f"held-out-{key}"
    if not (folder / "data.yaml").exists():
        extra = {}
        posed = next((t.network for t in teachers if "pose" in t.tasks), None)
        if getattr(posed, "kpt_oks_sigmas", None) is not None:
            extra["kpt_oks_sigmas"] = np.asarray(posed.kpt_oks_sigmas).tolist()  # type: ignore[union-attr]
        write_held_out(labeller, measured, folder, size, extra, device)
    return folder / "data.yaml", measured


def image_files(places: str | Sequence[str]) -> set[Path]:
    """Return the files of a split: of folders, lists of files (.txt), or images."""
    found: set[Path] = set()
    for place in [places] if isinstance(places, (str, Path)) else places:
        path = Path(place)
        if path.is_dir():
            found |= {p.resolve() for p in path.rglob("*") if p.is_file()}
        elif path.suffix == ".txt":
            listed = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            found |= {(path.parent / line).resolve() for line in listed}
        else:
            found.add(path.resolve())
    return found


def report(model: Any, settings: Settings, truth: str, data: str) -> DistillReport:
    """Measure the student and its teachers on the same pictures, and what they cost."""
    trainer = model.trainer
    student = network_of(model.model).float()
    where = {
        "data": data, "size": trainer.args.imgsz, "batch": max(trainer.batch_size, 1), "device": trainer.args.device,
        "folder": trainer.save_dir / "compare",
    }  # fmt: skip
    own = measure(student, **where)
    rows = compare(own, teachers_measured(trainer.teachers, student.names, **where), student.names)
    embedder = CropEmbedder(settings.teachers["reid"]) if "reid" in settings.teachers else None
    found = DistillReport(
        rows=rows, truth=truth, images=int(getattr(own, "images", 0)) or count_images(data),
        cost=costs(student, trainer.teachers, trainer.args.imgsz, embedder),
        weights=str(trainer.best if trainer.best.exists() else trainer.last),
        embeddings=similarity_correlation(student, trainer, data) if embedder is not None else None,
    )  # fmt: skip
    found.save(trainer.save_dir)
    LOGGER.info(f"\n{found}")
    return found


def count_images(data: str) -> int:
    """Return the number of validation images of a data YAML."""
    from ultralytics.data.utils import IMG_FORMATS

    return sum(f.suffix[1:].lower() in IMG_FORMATS for f in image_files(load_data(data)["val"]))


@torch.no_grad()
def similarity_correlation(student: Any, trainer: Any, data: str) -> float:
    """Return how the student's similarities of persons go with the ReID teacher's, on pictures that are measured on."""
    from yolo_multitask.distill.dataset import LessonDataset
    from yolo_multitask.losses.lessons import centre_shares

    files = sorted(
        f for f in image_files(load_data(data)["val"]) if f.suffix.lower() in {".jpg", ".jpeg", ".png", ".bmp"}
    )
    dataset = LessonDataset(files, trainer.args.imgsz, 1, trainer.cache)
    device, ours, theirs = trainer.device, [], []
    student = student.to(device).eval()
    for i in range(len(dataset)):
        batch = dataset.collate_fn([dataset.view(i, 0)])
        image = batch["img"].to(device).float() / 255
        if batch["lesson"][0] is None:
            trainer.teach({**batch, "img": image}, [0])
        lesson = batch["lesson"][0]
        chosen = lesson.has_embedding
        if not chosen.any():
            continue
        boxes = torch.from_numpy(lesson.instance_boxes[chosen]).to(device)
        raw = student(image)[1]
        shares = centre_shares(boxes, image.shape[3], image.shape[2])
        first = torch.zeros(len(boxes), dtype=torch.int64, device=device)
        ours.append(student.head.branches["track"].embed(raw["appearance"], shares, first))
        theirs.append(torch.from_numpy(lesson.embeddings[chosen]).float().to(device))
    if sum(map(len, ours)) < 3:
        return float("nan")
    pairs = [x @ x.T for x in (torch.cat(ours), torch.cat(theirs))]
    chosen = torch.triu_indices(*pairs[0].shape, 1)
    return float(np.corrcoef(*(p[chosen[0], chosen[1]].cpu().numpy() for p in pairs))[0, 1])
