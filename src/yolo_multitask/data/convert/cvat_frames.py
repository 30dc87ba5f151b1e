"""The frames of a video that was annotated with CVAT: a folder of extracted frames, or the video itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo_multitask.data.convert.cvat_tracks import video_frames
from yolo_multitask.data.convert.cvat_xml import Document
from yolo_multitask.data.convert.images import image_size


@dataclass(kw_only=True)
class Frames:
    """Where the frames of a sequence are.

    Attributes:
        sequence: Name of the sequence.
        place: The folder of extracted frames, or the video.
        files: Extracted frames by number, None for a video.
        rate: Frames a second of the annotated frames; None where it is not known.
    """

    sequence: str
    place: Path
    files: dict[int, Path] | None
    rate: float | None = None

    @property
    def seqinfo(self) -> str:
        """The text of a ``seqinfo.ini`` with the frame rate."""
        return f"[Sequence]\nname={self.sequence}\nimDir=.\nframeRate={self.rate:.9g}\n"

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Path | bytes, str, tuple[int, int]]]:
        """Yield number, image (file, or bytes of a JPEG), suffix and size of the given frames that are there.

        Args:
            numbers: Frame numbers, ascending.
        """
        if self.files is not None:
            there = ((n, self.files[n]) for n in numbers if n in self.files)
            yield from ((n, path, path.suffix, image_size(path)) for n, path in there)
            return
        import cv2

        wanted, video = set(numbers), cv2.VideoCapture(str(self.place))
        try:
            for number in range(max(wanted, default=-1) + 1):
                if not video.grab():
                    return
                if number not in wanted:
                    continue
                good, frame = video.retrieve()
                if good:
                    raw = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
                    yield number, raw, ".jpg", (int(frame.shape[1]), int(frame.shape[0]))
        finally:
            video.release()


def find_frames(document: Document, given: Path | None) -> Frames:
    """Find the frames of a document with tracks.

    Args:
        document: The file.
        given: Folder or video that the user names; else they are looked for beside the file.

    Raises:
        ValueError: A folder has no frames with numbers of the task, or the video cannot be read.
        FileNotFoundError: There are no frames beside the file.
    """
    from ultralytics.data.utils import IMG_FORMATS

    file = document.file
    name = file.parent.name if file.stem == "annotations" else file.stem
    beside = [
        *([file.parent / "images" / document.subset] if document.subset else []),
        file.parent / "images",
        *([file.parent / document.source] if document.source else []),
        file.parent,
    ]
    place = given or next(p for p in beside if p.exists())
    if place.is_file():
        return _video(name, place, document)
    images = sorted(p for p in place.iterdir() if p.suffix[1:].lower() in IMG_FORMATS)
    if not images and given is None:
        raise FileNotFoundError(
            f"{file}: expected its frames in the folder images beside it"
            f"{f' or the video {document.source}' if document.source else ''}, found none; give images= (a folder of "
            "frames, or the video)"
        )
    files: dict[int, Path] = {}
    for path in images:
        digits = re.search(r"(\d+)$", path.stem)
        if not digits:
            raise ValueError(f"{path}: expected frames with CVAT's frame number at the end of their names; rename it")
        if int(digits[1]) in files:
            raise ValueError(f"{path}: expected each frame once, found {files[int(digits[1])]} beside it")
        files[int(digits[1])] = path
    wanted = set(video_frames(document))
    if not wanted:
        raise ValueError(f"{file}: expected the frames of the task in <meta>, or in its tracks, found none")
    shifted = min(wanted) not in files and max(wanted) + 1 in files
    if not wanted & set(files) or shifted:
        raise ValueError(
            f"{place}: expected frames numbered as in CVAT, {min(wanted)} to {max(wanted)}, found "
            f"{f'{min(files)} to {max(files)}' if files else 'no images'}; CVAT counts from 0: number them so (ffmpeg "
            "-start_number 0), or give the video"
        )
    return Frames(sequence=name, place=place, files=files)


def _video(name: str, place: Path, document: Document) -> Frames:
    """Open a video to see that it can be read and how fast it is."""
    import cv2

    video = cv2.VideoCapture(str(place))
    try:
        if not video.isOpened() or not video.grab():
            raise ValueError(f"images={place}: expected a video or a folder of frames, found a file that is neither")
        rate = float(video.get(cv2.CAP_PROP_FPS)) / video_frames(document).step
    finally:
        video.release()
    return Frames(sequence=name, place=place, files=None, rate=rate if rate > 0 else None)
