"""What the tests of exported files export."""

from __future__ import annotations

from typing import Any

SIZE, CONF = 64, 0.1
KINDS: dict[str, dict[str, Any]] = {
    "static": {},
    "dynamic": {"dynamic": True},
    "nms": {"dynamic": True, "nms": True, "conf": CONF},
    "masks": {"nms": True, "conf": CONF, "masks": True, "max_det": 40},
}
