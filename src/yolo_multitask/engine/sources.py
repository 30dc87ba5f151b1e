"""Lists of videos, folders or streams as one source; the host itself reads lists of pictures alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ultralytics.data.loaders import LoadImagesAndVideos, LoadStreams, SourceTypes
from ultralytics.data.utils import IMG_FORMATS, VID_FORMATS
from ultralytics.utils.checks import check_file

STREAM_SCHEMES = ("rtsp", "rtmp", "tcp", "http", "https")


def open_list(
    source: Any, *, batch: int = 1, vid_stride: int = 1, stream_buffer: bool = False, channels: int = 3
) -> Any:
    """Return a loader for a list of streams (read at once) or of files and folders with a video among them.

    Args:
        source: Any source; what is no such list is returned as it is, and read by the host.
        batch: Images that are read together; not for streams, of which one image each is.
        vid_stride: Read every n-th frame of a video or stream.
        stream_buffer: Whether frames of streams wait, rather than being dropped when they come too fast.
        channels: Channels of an image.

    Raises:
        ValueError: If streams and files stand in one list.
        FileNotFoundError: If there is no such file or folder.
    """
    if not isinstance(source, (list, tuple)) or not all(isinstance(s, (str, int, Path)) for s in source):
        return source
    names = [str(check_file(s)) if _is_remote_video(str(s)) else str(s) for s in source]
    streams = [name for name in names if _is_stream(name)]
    if streams and len(streams) < len(names):
        other = next(name for name in names if name not in streams)
        raise ValueError(
            f"source: expected streams or files, found both in one list, such as {streams[0]} and {other}; "
            "run them one after the other."
        )
    if streams:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "list.streams"
            file.write_text("\n".join(names), encoding="utf-8")
            loader = LoadStreams(str(file), vid_stride=vid_stride, buffer=stream_buffer, channels=channels)
    elif any(Path(name).is_dir() or _suffix(name) in VID_FORMATS for name in names):
        loader = LoadImagesAndVideos(names, batch=batch, vid_stride=vid_stride, channels=channels)
    else:
        return source
    loader.source_type = SourceTypes(stream=bool(streams))
    return loader


def _is_stream(name: str) -> bool:
    parts = urlsplit(name)
    return name.isnumeric() or (parts.scheme.lower() in STREAM_SCHEMES and _suffix(parts.path) not in IMG_FORMATS)


def _is_remote_video(name: str) -> bool:
    """Return whether a video is downloaded before it is read, as the host does with one."""
    parts = urlsplit(name)
    return parts.scheme.lower() in {"http", "https"} and _suffix(parts.path) in VID_FORMATS


def _suffix(name: str) -> str:
    return Path(name).suffix[1:].lower()
