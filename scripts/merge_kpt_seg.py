"""Join a keypoint (pose) label set and a segmentation label set of the same images to one multitask data set.

    python scripts/merge_kpt_seg.py -kpt coco-pose.yaml -seg coco.yaml -o coco-multitask
    python scripts/merge_kpt_seg.py -kpt my-pose/ -seg my-seg/ -o joined --classes person:human
    python scripts/merge_kpt_seg.py -kpt my-pose/ -seg my-seg/ -o joined --kpt-shape 17 3

A set is given by its data YAML or its folder; a keypoint folder without data YAML needs --kpt-shape.
`ymt data merge` does the same.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from yolo_multitask.data.merge import merge


def main() -> int:
    """Run the script and return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("-kpt", "--keypoints", required=True, metavar="DIR_OR_YAML", help="the keypoint set")
    parser.add_argument("-seg", "--segments", required=True, metavar="DIR_OR_YAML", help="the segmentation set")
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="DIR", help="folder of the joined set")
    parser.add_argument("--classes", metavar="KPT:SEG,...", help="classes that correspond; else those of equal names")
    parser.add_argument("--iou", type=float, default=0.7, help="least IoU of a pair's boxes (default: %(default)s)")
    parser.add_argument("--split", metavar="NAME,...", help="splits to join (default: all)")
    parser.add_argument(
        "--kpt-shape", type=int, nargs=2, metavar=("K", "D"), help="of a keypoint folder without data YAML"
    )
    parser.add_argument("--copy", action="store_true", help="copy the images instead of linking them")
    parser.add_argument("--exist-ok", action="store_true", help="replace splits that exist")
    arguments = parser.parse_args()
    try:
        print(merge(**vars(arguments)))
    except (ValueError, OSError) as error:
        print(f"merge_kpt_seg: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
