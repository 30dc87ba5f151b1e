"""The ring buffer gives the windows that stacking the frames would."""

from __future__ import annotations

import pytest
import torch

from yolo_multitask.engine.temporal.windows import WindowBuffer


@pytest.mark.parametrize("groups", [1, 2, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_windows_are_those_of_a_plain_list(groups: int, channels: int) -> None:
    frames = [torch.full((channels, 2, 3), float(i)) for i in range(4 * groups + 3)]
    buffer = WindowBuffer(groups)
    for end, frame in enumerate(frames):
        buffer.add(frame)
        numbers = list(range(end - groups + 1, end + 1))
        assert buffer.indices() == [max(i, -1) for i in numbers]
        assert torch.equal(buffer.window, torch.cat([frames[max(i, 0)] for i in numbers]))
        assert buffer.window.is_contiguous(), "a window is a view, not a copy"


def test_memory_does_not_grow() -> None:
    buffer = WindowBuffer(3)
    for i in range(50):
        buffer.add(torch.full((1, 2, 2), float(i)))
    assert buffer.window.untyped_storage().nbytes() == 6 * 4 * 4


def test_a_frame_of_another_size_is_refused() -> None:
    buffer = WindowBuffer(2)
    buffer.add(torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match=r"\(1, 4, 4\).*\(1, 4, 8\)"):
        buffer.add(torch.zeros(1, 4, 8))
