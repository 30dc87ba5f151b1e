"""`ymt checks`: the versions that matter, and whether they fit together."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

import typer

from yolo_multitask import __version__

PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime", "lap", "opencv-python", "numpy")


def checks() -> int:
    """Print versions, the registration with Ultralytics and the YAML files found.

    Returns:
        0 if everything fits together, 1 if not; each misfit is named on stderr with its remedy.
    """
    from yolo_multitask import configs, host, register

    register()
    low, high = host.SUPPORTED
    problems = []
    rows = [
        ("yolo-multitask", __version__),
        ("Python", f"{platform.python_version()} on {platform.platform()}"),
        ("ultralytics", f"{host.HOST_VERSION} (supported: >={low},<{high})"),
        *((name, _version(name)) for name in PACKAGES),
    ]
    if not host.version_supported():
        problems.append(
            f"expected ultralytics >={low},<{high}, found {host.HOST_VERSION}; "
            f"run: {sys.executable} -m pip install 'ultralytics>={low},<{high}'"
        )
    missing = [name for name, version in rows if version == "missing"]
    problems += [f"{name} is missing; run: {sys.executable} -m pip install {name}" for name in missing]
    rows.append(("registered", "yes" if host.is_registered() else "no"))
    if not host.is_registered():
        problems.append("the task 'multitask' is not in Ultralytics' tables; reinstall yolo-multitask")
    try:
        rows += [(kind, ", ".join(configs.config_names(kind)) or "none") for kind in configs.KINDS]
    except FileNotFoundError as error:
        problems.append(str(error))
    for name, value in rows:
        typer.echo(f"{name:<16}{value}")
    for problem in problems:
        typer.echo(f"ymt: {problem}", err=True)
    typer.echo("not supported" if problems else "all fits together")
    return 1 if problems else 0


def _version(name: str) -> str:
    """Return the installed version of a distribution; OpenCV has several of the same content."""
    names = [name, f"{name}-headless", "opencv-contrib-python"] if name == "opencv-python" else [name]
    for candidate in [*names, *(["onnxruntime-gpu"] if name == "onnxruntime" else [])]:
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return "missing"
