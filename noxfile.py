"""Every check of the project, defined once: `nox -l` lists them, `nox` runs lint, types and tests."""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")["project"]
EXTRAS = PROJECT["optional-dependencies"]
QUIET = {"OMP_NUM_THREADS": "1", "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
# what Ultralytics would install when a model is exported; executorch and paddle disagree with newer numpy and torch
FORMATS = ["openvino", "nncf", "ncnn", "pnnx==20260526", "MNN>=2.9.6", "litert-torch>=0.10", "ai-edge-litert>=2.3"]
DEFAULT = "not realdata and not slow and not formats"
PARALLEL = ["-n", os.environ.get("YMT_TEST_WORKERS", "auto"), "--dist", "worksteal"]


def lowest_ultralytics() -> str:
    """Return the requirement that pins the lowest supported version of Ultralytics."""
    (requirement,) = (r for r in PROJECT["dependencies"] if r.startswith("ultralytics"))
    return "ultralytics==" + requirement.split(">=")[1].split(",")[0]


def run_tests(session: nox.Session, markers: str, *requirements: str) -> None:
    """Run the tests that `markers` selects, in parallel, on the package with the given `requirements` beside it."""
    session.install("-e", ".[test]", *requirements)
    session.run("pytest", *PARALLEL, "-m", markers, *session.posargs, env=QUIET)


@nox.session
def lint(session: nox.Session) -> None:
    """Lint and check the formatting."""
    session.install(*EXTRAS["lint"])
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package; needs no torch."""
    session.install(*EXTRAS["types"])
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests that need neither real data nor much time."""
    run_tests(session, DEFAULT)


@nox.session
def tests_min(session: nox.Session) -> None:
    """Run the tests on the lowest supported Ultralytics."""
    run_tests(session, DEFAULT, lowest_ultralytics())


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that take long: the built wheel, trainings."""
    run_tests(session, "slow and not realdata and not formats")


@nox.session
def formats(session: nox.Session) -> None:
    """Compare every export format with the network itself."""
    session.install("-e", ".[test]", *FORMATS)
    session.run("pytest", "-m", "formats", *session.posargs, env=QUIET)


@nox.session
def interop(session: nox.Session) -> None:
    """Run the tests of what is handed on to other tools, with supervision."""
    session.install("-e", ".[test,supervision]")
    session.run("pytest", "tests/interop", *session.posargs, env=QUIET)


@nox.session
def realdata(session: nox.Session) -> None:
    """Run the tests on real images and weights, in the folder named by YMT_REALDATA."""
    if not os.environ.get("YMT_REALDATA"):
        session.error("YMT_REALDATA is not set; set it to the folder with real images and weights.")
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "realdata", *session.posargs, env=QUIET)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what one network costs against two: `nox -s bench -- ARGUMENTS`."""
    session.install("-e", ".")
    script = ROOT / "scripts" / "benchmarks" / "one_net_or_two.py"
    session.run("python", str(script), *session.posargs, env={"YOLO_OFFLINE": "true"})


@nox.session
def demo(session: nox.Session) -> None:
    """Run `ymt demo`: `nox -s demo -- out=DIR`."""
    session.install("-e", ".[export]")
    session.run("ymt", "demo", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a broken link fails."""
    session.install(*EXTRAS["docs"])
    session.run("mkdocs", "build", "--strict", *session.posargs)
