"""The `multicue` tracker: torch-free, needs numpy, OpenCV, lap and PyYAML alone."""

from .book import State
from .config import TrackerConfig, load_config
from .tracker import MultiCueTracker

__all__ = ["MultiCueTracker", "State", "TrackerConfig", "load_config"]
