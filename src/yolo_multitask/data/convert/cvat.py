"""CVAT's XML 1.1 ("CVAT for images", "CVAT for video") to one multitask data set, tracks with ``#id``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from yolo_multitask.data.convert.cvat_frames import Frames, find_frames
from yolo_multitask.data.convert.cvat_tracks import shapes_by_frame, video_frames
from yolo_multitask.data.convert.cvat_xml import (
    DRAWN,
    NO_OBJECT,
    Document,
    group_of,
    is_ignored,
    keypoint_names,
    parse,
    read_document,
    to_shape,
)
from yolo_multitask.data.convert.dataset import Content, Picture, Target
from yolo_multitask.data.convert.images import check_size
from yolo_multitask.data.convert.objects import Shape, join, to_instance
from yolo_multitask.data.convert.report import ConvertReport, SplitReport
from yolo_multitask.data.convert.values import texts


@dataclass(kw_only=True)
class Page:
    """An image of a task, or a frame of a video: its objects in pixels, and what was counted while they were read."""

    name: str
    subset: str = ""
    number: int = -1  # of the frame
    size: tuple[int, int] | None
    objects: list[Shape]
    dropped: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)


@dataclass(kw_only=True)
class Part:
    """The pages of one file and where their images are: a folder with its files by path, or the frames of a video.

    The `prefix` is the folder of the file below `src`; names of images need only differ in their own file.
    """

    file: Path
    pages: list[Page]
    folder: Path
    prefix: str = ""
    present: dict[str, str] = field(default_factory=dict)
    frames: Frames | None = None


def convert_cvat(
    src: str | Path,
    out: str | Path,
    *,
    split: str = "train",
    images: str | Path | None = None,
    keypoints: str | Sequence[str] | None = None,
    classes: str | Sequence[str] | None = None,
    background: bool = True,
    copy: bool = False,
    exist_ok: bool = False,
) -> ConvertReport:
    """Convert CVAT's XML 1.1 to a multitask data set.

    Boxes, polygons, masks and ellipses are objects; those of one group with the same label are one, and a skeleton of
    their group gives its keypoints. Of a video, each track has its number as ``#id``, each XML file is a sequence, and
    all frames of the task are written: ``out/images/<split>/<sequence>/000001.jpg``. An attribute ``ignore`` or
    ``crowd`` that is set makes an ignore region.

    Args:
        src: An XML file, or a folder of them (with its subfolders).
        out: Folder of the data set.
        split: ``train``, ``val`` or ``test``.
        images: Folder with the images, or with frames that have CVAT's frame numbers in their names; or the video. By
            default the folder ``images`` beside the XML, the XML's own folder, or the task's video there.
        keypoints: Names of the keypoints in order (a list, or one text with commas): of the points of skeletons, else
            of points that are drawn alone. By default the points of the skeletons in the order of the task's labels.
        classes: Labels to keep, in this order. By default all labels of the task, or the classes of the data set that
            the split is added to.
        background: Keep images and frames without objects.
        copy: Copy the images; by default they are hard links where possible, which take no space.
        exist_ok: Replace the split if it exists.

    Returns:
        The counts; print it for a table. An annotation is an object in an image, or a shape that belongs to none.

    Raises:
        ValueError: A file is not CVAT's XML (the message names file and element), or an argument is wrong.
        FileNotFoundError: `src` or `images` does not exist, or there is no video.
    """
    target = Target.open(out, [split], exist_ok)
    given = None if images is None else Path(images).expanduser()
    if given is not None and not given.exists():
        raise FileNotFoundError(f"images={images}: expected a folder of images or a video, found none there")
    root, files = _files(Path(os.path.abspath(Path(src).expanduser())))
    target.check_sources(files)
    documents = [read_document(file) for file in files]
    labels = dict.fromkeys(chain(*(d.labels for d in documents)))  # in order
    points = texts(keypoints, True)
    found = [name for name in labels or _used_labels(documents) if name not in points]
    names = target.class_names(found, classes)
    skeletons: dict[str, list[str]] = {}
    for document in documents:
        skeletons |= keypoint_names(skeletons | document.skeletons, points, document.file)
    parts = [_part(d, root, given, skeletons, points) for d in documents]
    sequences = [p.frames.sequence for p in parts if p.frames]
    if len(set(sequences)) < len(sequences):
        raise ValueError(f"src={src}: expected XML files with names of their own, found {', '.join(sequences)}")
    content = target.settle(_content(parts, names, skeletons, points))
    return target.write(
        content,
        {split: lambda report: _pictures(parts, content, report)},
        background=background,
        copy=copy,
        files={
            f"{split}/{p.frames.sequence}/seqinfo.ini": p.frames.seqinfo for p in parts if p.frames and p.frames.rate
        },
    )


def _files(src: Path) -> tuple[Path, list[Path]]:
    """Return the folder that names are relative to, and the XML files."""
    if src.is_file():
        return src.parent, [src]
    if not src.is_dir():
        raise FileNotFoundError(f"src={src}: expected CVAT's XML file or a folder with it, found none there")
    files = sorted(p for p in src.rglob("[!.]*.xml") if p.is_file())
    if not files:
        raise ValueError(f"src={src}: expected CVAT's XML (annotations.xml), found none; unpack the export first")
    return src, files


def _used_labels(documents: Sequence[Document]) -> list[str]:
    """Return the labels of elements, sorted, for files without those of the task."""
    elements = chain(*(chain(d.tracks, *d.images) for d in documents))
    return sorted({label for e in elements if (label := e.get("label"))})


def _content(parts: Sequence[Part], names: list[str], skeletons: Mapping[str, list[str]], points: list[str]) -> Content:
    """Return what the data set holds."""
    shapes = [s for part in parts for page in part.pages for s in page.objects if s.label in names]
    any_names = points or next(iter(skeletons.values()), [])
    with_keypoints = sorted({names.index(s.label) for s in shapes if s.keypoints is not None})
    return Content(
        names=names,
        kpt_names={c: skeletons.get(names[c], any_names) for c in with_keypoints},
        polygons=any(s.extents for s in shapes),
        ids=any(s.id >= 0 for s in shapes),
    )


def _part(
    document: Document, root: Path, given: Path | None, skeletons: Mapping[str, Sequence[str]], points: list[str]
) -> Part:
    """Read the pages of one file and find its images."""
    from ultralytics.data.utils import IMG_FORMATS

    if not document.tracks:
        beside = document.file.parent
        folder = next((f for f in (given, beside / "images") if f and f.is_dir()), beside)
        files = [p for p in sorted(folder.rglob("*")) if p.suffix[1:].lower() in IMG_FORMATS and p.is_file()]
        present = [p.relative_to(folder).as_posix() for p in files]
        by_stem = {str(PurePosixPath(n).with_suffix("")): n for n in present}
        pages = [_image_page(image, i, document, skeletons, points) for i, image in enumerate(document.images)]
        return Part(
            file=document.file,
            pages=pages,
            folder=folder,
            prefix=beside.relative_to(root).as_posix(),
            present=by_stem | {n: n for n in present},
        )
    frames = find_frames(document, given)
    dropped: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    found = shapes_by_frame(document, skeletons, points, dropped, notes)
    pages = [
        Page(name=f"{frames.sequence}/{number:06d}", number=number, size=document.size, objects=[])
        for number in video_frames(document)
    ]
    for page in pages:
        page.objects = join(found.get(page.number, []), points, page.dropped, page.notes)
    if pages:
        pages[0].dropped.update(dropped)
        pages[0].notes.update(notes)
    return Part(file=document.file, pages=pages, folder=frames.place, frames=frames)


def _image_page(
    image: ElementTree.Element,
    index: int,
    document: Document,
    skeletons: Mapping[str, Sequence[str]],
    points: list[str],
) -> Page:
    """Read one ``<image>``."""
    name = PurePosixPath((image.get("name") or "").replace("\\", "/"))
    where = f"{document.file}: image {name.as_posix() if name.name else index}"
    sides = [image.get(n) or "" for n in ("width", "height")]
    if not name.name or not all(s.isdecimal() and int(s) > 0 for s in sides):
        raise ValueError(f"{where}: expected name=, width= and height=, found {dict(image.attrib)}")
    if name.is_absolute() or ".." in name.parts:
        name = PurePosixPath(name.name)
    page = Page(name=name.as_posix(), subset=image.get("subset") or "", size=(int(sides[0]), int(sides[1])), objects=[])
    shapes = []
    for i, element in enumerate(image):
        at = f"{where}, element {i} (<{element.tag}>)"
        if element.tag in NO_OBJECT:
            page.dropped[f"{element.tag}, no outline of an object"] += 1
            continue
        label = element.get("label")
        if element.tag not in DRAWN or not label:
            raise ValueError(f"{at}: expected one of {', '.join((*DRAWN, *NO_OBJECT))} with a label=, found neither")
        empty = Shape(label=label, where=at, group=group_of(element), ignore=is_ignored(element))
        drawn = parse(element, skeletons.get(label, points), at)
        shape = to_shape(drawn, empty, points, page.dropped, page.notes)
        if shape is not None:
            shapes.append(shape)
    page.objects = join(shapes, points, page.dropped, page.notes)
    return page


def _pictures(parts: Sequence[Part], content: Content, report: SplitReport) -> Iterator[Picture]:
    """Yield the images with their labels; those that are missing are counted."""
    for part in parts:
        for page in part.pages:
            report.annotations += sum(page.dropped.values())
            report.dropped.update(page.dropped)
            report.notes.update(page.notes)
        if part.frames is None:
            yield from _image_pictures(part, content, report)
        else:
            yield from _frame_pictures(part, part.frames, content, report)


def _image_pictures(part: Part, content: Content, report: SplitReport) -> Iterator[Picture]:
    """Yield the images of a folder. CVAT names frames without a suffix, and puts subsets into folders of their own."""
    for page in part.pages:
        assert page.size is not None
        tries = (f"{page.subset}/{page.name}", page.name, PurePosixPath(page.name).name)
        name = next((part.present[n] for n in tries if n in part.present), None)
        if name is None:
            _count_missing(page, report, "image missing in the folder")
            continue
        check_size(part.folder / name, page.size, os.fspath(part.file))
        placed = (PurePosixPath(part.prefix) / name).as_posix()
        yield _picture(page, placed, part.folder / name, page.size, content, report)


def _frame_pictures(part: Part, frames: Frames, content: Content, report: SplitReport) -> Iterator[Picture]:
    """Yield the frames of a video."""
    pages = {page.number: page for page in part.pages}
    for number, source, suffix, size in frames.read(list(pages)):
        page = pages.pop(number)
        if page.size is not None and size != page.size:
            raise ValueError(
                f"{frames.place}, frame {number}: expected {page.size[0]}x{page.size[1]} as {part.file} says, found "
                f"{size[0]}x{size[1]}; give the video that was annotated"
            )
        yield _picture(page, f"{page.name}{suffix}", source, size, content, report)
    for page in pages.values():
        _count_missing(page, report, "frame missing")


def _picture(
    page: Page, name: str, source: Path | bytes, size: tuple[int, int], content: Content, report: SplitReport
) -> Picture:
    """Return an image with its labels."""
    found = [to_instance(shape, content.names, size, report) for shape in page.objects]
    return Picture(name=name, source=source, instances=[i for i in found if i is not None])


def _count_missing(page: Page, report: SplitReport, reason: str) -> None:
    """Count the objects of an image that is not there."""
    report.images_missing += 1
    report.annotations += len(page.objects)
    report.dropped[reason] += len(page.objects)
