"""The `multicue` tracker: identities from boxes, motion, appearance, pose and shape at once."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import cues
from .appearance import Appearance
from .association import allowed, assign, combine, detection_limits, track_limits, unexplained
from .book import Book, State
from .boxes import Array, hidden_shares, to_xyxy
from .camera import Camera, as_bgr
from .config import TrackerConfig, as_config
from .detections import Detections, read_detections
from .motion import Motion
from .revival import revive
from .table import Rows, Table

LOGGER = logging.getLogger(__name__)
RESTART_GAP = 0.3  # seconds unseen after which the velocity is taken from the two ends of the gap


class MultiCueTracker:
    """Online tracker over all cues of a multitask network; each of them may be absent.

    A track is tentative until the scores of its detections sum to `confirm_score`, then confirmed; lost while unseen;
    removed after `max_lost` seconds, or `memory` seconds where its looks are known. All state is in this object.

    Args:
        config: Configuration, or a mapping or namespace of the keys of its YAML; None for the defaults.
        frame_rate: Frames per second of what is tracked; scales everything that is given in seconds.
        keypoint_sigmas: (K,) spread of each keypoint relative to the size of the object, for OKS; default: COCO's for
            17 keypoints, else 1 / K each.

    Raises:
        ValueError: The configuration or the frame rate is wrong.
    """

    def __init__(
        self,
        config: TrackerConfig | Mapping[str, Any] | Namespace | None = None,
        frame_rate: float = 30.0,
        keypoint_sigmas: ArrayLike | None = None,
    ) -> None:
        if not (np.isfinite(frame_rate) and frame_rate > 0):
            raise ValueError(f"MultiCueTracker: expected a frame_rate above 0, got {frame_rate!r}.")
        self.config = as_config(config)
        self.dt = 1.0 / float(frame_rate)
        self._keypoint_sigmas = None if keypoint_sigmas is None else np.asarray(keypoint_sigmas, float)
        self._warned = False
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next frame is the first, and ids start at 1 again."""
        self.frame = 0
        self._next_id = 1
        self._size = np.zeros(2)  # width and height of the picture, as far as known
        self.book = Book()
        self.motion = Motion(self.config, self.dt)
        self.appearance = Appearance(self.config)
        self.pose = cues.Pose(self.config, self._keypoint_sigmas)
        self.shape = cues.Shape()
        self.next_box = cues.NextBox()
        self._camera = Camera()

    @property
    def _tables(self) -> tuple[Table, ...]:
        """Everything that has one row a track."""
        return self.book, self.motion, self.appearance.table, self.pose, self.shape, self.next_box

    def update(
        self,
        det: Any,
        img: NDArray[Any] | None = None,
        feats: Any = None,
        keypoints: Any = None,
        masks: Any = None,
        next_boxes: Any = None,
    ) -> NDArray[np.float32]:
        """Track one frame.

        All coordinates are pixels of the original picture. A detection whose box is not finite or has no area is left
        out, with one warning a tracker.

        Args:
            det: N detections with `.xyxy`, `.conf` and `.cls`, as Ultralytics' `Boxes` in numpy; its `.orig_shape`
                (H, W), if there is one, is the size of the picture where `img` is not given.
            img: (H, W, 3) BGR or (H, W) gray uint8; without it the camera is taken to stand still.
            feats: (N, E) embeddings.
            keypoints: (N, K, 2 or 3), the third value a confidence.
            masks: (N, h, w) over the whole picture, non-zero on the object; in any resolution, where the size of the
                picture is known, else in its own.
            next_boxes: (N, 4) corners of the box in the next frame; NaN where unknown.

        Returns:
            (M, 8) `x1 y1 x2 y2 id score class index` of the confirmed tracks seen in this frame, in the order of the
            detections. The box is the detection's own and `index` its row in `det`; each occurs once.

        Raises:
            ValueError: A cue does not fit the detections, or what was given before.
        """
        img = None if img is None else as_bgr(img)
        shape = getattr(det, "orig_shape", None) if img is None else img.shape
        picture = None if shape is None else (int(shape[1]), int(shape[0]))
        detections, broken = read_detections(
            det,
            low_score=self.config.low_score,
            feats=feats,
            keypoints=keypoints,
            masks=masks,
            next_boxes=next_boxes,
            picture=picture,
        )
        if broken and not self._warned:
            self._warned = True
            LOGGER.warning("%d detections without a finite box, score and class are not tracked", broken)
        detections = self.appearance.attend(detections, img)
        self.pose.fit(detections)
        self.frame += 1
        self._see_picture(detections, img, picture)
        self.motion.predict(self.frame - self.book.last > 1)
        matched_T = self._associate(detections)
        self._update(detections, matched_T)
        matched_T = np.concatenate([matched_T, self._start(detections, matched_T)])
        matched_T = self._confirm(matched_T)
        rows = self._rows(detections, matched_T)
        self._retire(matched_T)
        return rows

    def _see_picture(self, detections: Detections, img: NDArray[Any] | None, picture: tuple[int, int] | None) -> None:
        """Learn the size (width, height) of the picture and undo the motion of the camera."""
        if picture is None:
            self._size = np.maximum(self._size, detections.boxes[:, 2:].max(axis=0, initial=0.0))
        else:
            self._size = np.array(picture, dtype=float)
        if img is None or not self.config.camera_motion:
            return
        affine = self._camera.motion(img, detections.boxes)
        if affine is not None:
            self.motion.warp(affine)
            self.next_box.warp(affine)

    def _associate(self, detections: Detections) -> Rows:
        """Detection (T,) of each track, -1 for none.

        First the confirmed and lost tracks choose among all detections at once, where the score of a detection moves
        its limit: a hidden object's low-scoring detection competes with the high-scoring one of who hides it, instead
        of being looked at when that is already taken. Then tentative tracks choose among the rest.
        """
        book = self.book
        matched_T = np.full(len(book.id), -1, dtype=np.int64)
        age = self.frame - book.last
        rows = np.flatnonzero(age * self.dt <= self.config.max_lost)
        if not len(rows) or not len(detections):
            return matched_T
        pairs, t_P, excess_P = self._compare(detections, rows)
        free = np.ones(len(detections), dtype=bool)
        tentative = book.state[pairs.row] == State.TENTATIVE
        for stage in (~tentative, tentative):
            p = np.flatnonzero(stage & free[pairs.d])
            p = p[assign(pairs.d[p], t_P[p], excess_P[p])]
            matched_T[pairs.row[p]] = pairs.d[p]
            free[pairs.d[p]] = False
        return matched_T

    def _compare(self, detections: Detections, rows: Rows) -> tuple[cues.Pairs, Rows, Array]:
        """Compare detections with the tracks of the given rows, where motion leaves it possible.

        Returns:
            The pairs, the place (P,) of their tracks in `rows`, and their costs less their limits (P,).
        """
        config, book = self.config, self.book
        near = cues.motion_similarity(detections, self.motion, rows)
        possible = near >= config.motion_gate
        if config.class_gate:
            possible &= detections.cls[:, None] == book.cls[rows]
        d, t = np.nonzero(possible)
        boxes = to_xyxy(self.motion.mean[rows])
        age = self.frame - book.last[rows]
        pairs = cues.Pairs(detections=detections, d=d, row=rows[t], boxes=boxes[t], age=age[t])
        said = {
            "box": cues.compare_boxes(pairs),
            "motion": cues.Evidence(near[d, t], np.ones(len(d))),
            "embedding": self.appearance.compare(pairs),
            "keypoint": self.pose.compare(pairs),
            "mask": self.shape.compare(pairs),
            "next_box": self.next_box.compare(pairs),
        }
        evidence = {name: each for name, each in said.items() if each is not None}
        hidden = hidden_shares(boxes, book.cls[rows], book.state[rows] != State.TENTATIVE)
        limit = detection_limits(config, detections)[d] + track_limits(config, age > 1, hidden)[t]
        excess = combine(evidence, config.weights, len(d)) - limit
        return pairs, t, np.where(allowed(evidence, config.gates, len(d)), excess, np.inf)

    def _update(self, detections: Detections, matched_T: Rows) -> None:
        """Correct and teach the tracks that have a detection."""
        rows = np.flatnonzero(matched_T >= 0)
        dets = matched_T[rows]
        book, xywh = self.book, detections.xywh[dets]
        gap = (self.frame - book.last[rows]).astype(float)
        again = gap > max(2.0, RESTART_GAP / self.dt)
        on = ~again
        self.motion.correct(rows[on], xywh[on], detections.score[dets[on]], detections.hidden[dets[on]])
        self.motion.restart(rows[again], xywh[again], gap[again])
        book.cls[rows] = detections.cls[dets]
        book.evidence[rows] += detections.score[dets]
        book.last[rows] = self.frame
        self._teach(rows, dets, detections, born=False)

    def _teach(self, rows: Rows, dets: Rows, detections: Detections, *, born: bool) -> None:
        """Let every cue remember what it needs of the detections of M tracks."""
        if not len(rows):
            return
        boxes = self.motion.boxes[rows]
        self.appearance.learn(rows, dets, detections, self.frame, born=born)
        self.pose.learn(rows, dets, detections, boxes)
        self.shape.learn(rows, dets, detections, boxes)
        self.next_box.learn(rows, dets, detections)

    def _start(self, detections: Detections, matched_T: Rows) -> Rows:
        """Start tracks from detections that no track explains; return the detections (M,) of the new rows."""
        new = unexplained(self.config, detections, matched_T[matched_T >= 0])
        if not len(new):
            return new
        first = len(self.book.id)
        for table in self._tables:
            table.grow(len(new))
        rows = np.arange(first, first + len(new))
        self.motion.start(rows, detections.xywh[new])
        self.book.cls[rows] = detections.cls[new]
        self.book.evidence[rows] = detections.score[new]
        self.book.born[rows] = self.book.last[rows] = self.frame
        self._teach(rows, new, detections, born=True)
        return new

    def _confirm(self, matched_T: Rows) -> Rows:
        """Confirm tentative tracks that have shown enough: as a lost track that came back, or under a new id."""
        book = self.book
        ready = (book.state == State.TENTATIVE) & (matched_T >= 0)
        ready &= (book.evidence >= self.config.confirm_score) | (self.frame == 1)
        candidates = np.flatnonzero(ready)
        lost = np.flatnonzero((book.state != State.TENTATIVE) & (matched_T < 0))
        if len(candidates) and len(lost):
            came, back = revive(
                self.config,
                self.dt,
                self.frame,
                candidates,
                lost,
                book=book,
                motion=self.motion,
                appearance=self.appearance,
                size=self._size,
            )
            self._take_over(came, back)
            matched_T[back] = matched_T[came]
            matched_T[came] = -1
            candidates = np.setdiff1d(candidates, came)
        book.id[candidates] = np.arange(self._next_id, self._next_id + len(candidates))
        self._next_id += len(candidates)
        book.state[candidates] = State.CONFIRMED
        return matched_T

    def _take_over(self, came_M: Rows, back_M: Rows) -> None:
        """Let lost tracks go on where tentative ones are, which end: with their own ids, births and galleries."""
        book = self.book
        kept = book.id[back_M], book.born[back_M], book.state[back_M]
        for table in (book, self.motion, self.pose, self.shape, self.next_box):
            table.move(came_M, back_M)
        book.id[back_M], book.born[back_M], book.state[back_M] = kept
        book.last[came_M] = -(10**9)  # retired below

    def _rows(self, detections: Detections, matched_T: Rows) -> NDArray[np.float32]:
        """Output rows (M, 8) of the confirmed tracks that have a detection."""
        book = self.book
        seen = np.flatnonzero((matched_T >= 0) & (book.state != State.TENTATIVE))
        seen = seen[np.argsort(matched_T[seen])]
        d = matched_T[seen]
        columns = (
            detections.boxes[d],
            book.id[seen, None],
            detections.score[d, None],
            detections.cls[d, None],
            detections.index[d, None],
        )
        return np.concatenate(columns, axis=1).astype(np.float32)

    def _retire(self, matched_T: Rows) -> None:
        """Mark unseen tracks as lost, and remove those that were lost for too long."""
        book, config = self.book, self.config
        unseen = matched_T < 0
        believed = book.state != State.TENTATIVE
        book.state[believed] = np.where(unseen[believed], State.LOST, State.CONFIRMED)
        memory = np.where(self.appearance.table.sightings > 0, max(config.memory, config.max_lost), config.max_lost)
        patience = np.where(believed, memory, config.tentative_lost)
        keep = (self.frame - book.last) * self.dt <= patience
        if not keep.all():
            for table in self._tables:
                table.select(keep)
