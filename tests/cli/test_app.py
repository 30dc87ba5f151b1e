"""`ymt`: commands in any order, exit codes, one-line errors, and what reaches the model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from yolo_multitask import __version__, register
from yolo_multitask.cli import app, run
from yolo_multitask.cli.grammar import UsageError


class FakeModel:
    """Stands for a model: records what its methods are called with."""

    def __init__(self, task: str = "multitask", data: str | None = None) -> None:
        self.task = task
        self.overrides: dict[str, Any] = {"data": data} if data else {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.consumed = 0

    def _record(self, mode: str, kwargs: dict[str, Any]) -> None:
        self.calls.append((mode, kwargs))

    def train(self, **kwargs: Any) -> None:
        self._record("train", kwargs)

    def val(self, **kwargs: Any) -> None:
        self._record("val", kwargs)

    def export(self, **kwargs: Any) -> None:
        self._record("export", kwargs)

    def benchmark(self, **kwargs: Any) -> None:
        self._record("benchmark", kwargs)

    def predict(self, **kwargs: Any) -> Iterator[int]:
        self._record("predict", kwargs)
        for i in range(3):
            self.consumed += 1
            yield i

    def track(self, **kwargs: Any) -> Iterator[int]:
        self._record("track", kwargs)
        yield 0


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    """Replace the model that the command line builds."""
    register()  # as building a real model does
    model = FakeModel()
    monkeypatch.setattr(run, "load_model", lambda name, task: model)
    return model


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return a small picture."""
    path = tmp_path / "picture.jpg"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8))
    return path


@pytest.mark.parametrize(
    ("argv", "arranged"),
    [
        (["train", "model=x"], ["train", "model=x"]),
        (["multitask", "val", "model=x"], ["val", "multitask", "model=x"]),
        (["model=x", "predict", "source=y"], ["predict", "model=x", "source=y"]),
        (["mode=predict", "model=x"], ["predict", "model=x"]),
        (["train", "name=val"], ["train", "name=val"]),
        (["train", "name", "=", "val"], ["train", "name", "=", "val"]),
        (["train", "track=True"], ["train", "track=True"]),
        (["train", "track", "=", "True"], ["train", "track", "=", "True"]),
        (["train", "--name", "val"], ["train", "--name", "val"]),
        (["data", "convert-coco", "out=train"], ["data", "convert-coco", "out=train"]),
        (["demo", "out=val"], ["demo", "out=val"]),
        (["--version"], ["--version"]),
        ([], ["--help"]),
        (["data"], ["data", "--help"]),
    ],
)
def test_the_command_may_stand_anywhere(argv: list[str], arranged: list[str]) -> None:
    assert app.arrange(argv) == arranged


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["model=x"], "expected a command"),
        (["train", "val"], "expected one command, found train and val"),
        (["data", "convert"], "unknown data command 'convert'; did you mean 'convert-mot'?"),
        (["train", "epoch=3"], "unknown argument 'epoch'; did you mean 'epochs'?"),
        (["train", "switches={}"], "unknown argument 'switches'"),
        (["train", "tasks=[pose]"], "unknown argument 'tasks'; did you mean 'task'?"),
        (["train", "epochs=ten"], "'epochs' must be an int"),
        (["train", "segment=3"], "'segment' must be True or False, got 3"),
        (["train", "task=multitsk"], "unknown task 'multitsk'; did you mean 'multitask'?"),
        (["train", "imgsz"], "'imgsz' needs a value; write imgsz=640."),
        (["predict", "conf=2"], "conf"),
        (["demo", "outt=x"], "unknown argument 'outt'; did you mean 'out'?"),
        (["demo", "long=3"], "'long' must be True or False, found 3"),
        (["checks", "--foo"], "--foo"),
        (["--foo"], "--foo"),
    ],
)
def test_wrong_arguments_give_one_line_and_exit_code_2(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("ymt: ")
    assert says in err
    assert err.count("\n") == 1


def test_a_failure_gives_one_line_and_exit_code_1(
    fake: FakeModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**kwargs: Any) -> None:
        raise RuntimeError("\x1b[31mexpected a\n  dog\x1b[0m, found a cat")

    monkeypatch.setattr(fake, "train", fail)
    assert app.main(["train", "model=x.pt", "data=x.yaml"]) == 1
    assert capsys.readouterr().err == "ymt: expected a dog, found a cat\n"

    monkeypatch.setenv("YMT_DEBUG", "1")
    with pytest.raises(RuntimeError, match="dog"):
        app.main(["train", "model=x.pt", "data=x.yaml"])


def test_an_error_without_words_is_named() -> None:
    assert app.one_line(KeyError("boxes")) == "KeyError: 'boxes'"
    assert app.one_line(RuntimeError()) == "RuntimeError"
    assert app.one_line(UsageError("do this")) == "do this"


def test_an_interrupt_gives_130(
    fake: FakeModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(**kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fake, "val", interrupt)
    assert app.main(["val", "model=x.pt", "data=x.yaml"]) == 130
    assert capsys.readouterr().err.strip() == "ymt: interrupted"


def test_predict_saves_and_consumes_the_stream(fake: FakeModel) -> None:
    assert app.main(["predict", "model=best.pt", "source=a.jpg", "conf", "=", "0.3", "show"]) == 0
    assert fake.calls == [
        ("predict", {"save": True, "stream": True, "source": "a.jpg", "conf": 0.3, "show": True}),
    ]
    assert fake.consumed == 3


def test_saving_can_be_switched_off(fake: FakeModel) -> None:
    assert app.main(["track", "model=best.pt", "source=a.mp4", "save=False"]) == 0
    assert fake.calls == [("track", {"save": False, "stream": True, "source": "a.mp4"})]


def test_switches_and_gains_reach_training_as_typed(fake: FakeModel) -> None:
    argv = ["train", "model=m.yaml", "data=d.yaml", "pose=20.0", "segment=True", "seg=3.0", "labels={polygons: true}"]
    assert app.main(argv) == 0
    (call,) = fake.calls
    assert call == (
        "train",
        {"data": "d.yaml", "pose": 20.0, "segment": True, "seg": 3.0, "labels": {"polygons": True}},
    )


def test_settings_of_identities_reach_training_as_typed(fake: FakeModel) -> None:
    typed = {"track": True, "next": True, "reid": 0.5, "motion": 2, "pair_gap": 3, "freeze": "trunk"}
    argv = [f"{key}={value}" for key, value in typed.items()]
    assert run.parse(argv) == typed
    assert app.main(["train", "model=best.pt", "data=d.yaml", *argv]) == 0
    assert fake.calls == [("train", {"data": "d.yaml", **typed})]


@pytest.mark.parametrize("argv", [["multitask", "train"], ["train"], ["train", "task=multitask"]])
def test_a_missing_model_and_data_set_are_named_and_filled_in(
    argv: list[str], fake: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    from ultralytics.cfg import TASK2DATA

    assert app.main(argv) == 0
    assert fake.calls == [("train", {"data": TASK2DATA["multitask"]})]
    err = capsys.readouterr().err
    assert "'model' is missing, using model=yolov8n-multitask.yaml" in err
    assert "'data' is missing" in err


def test_resume_needs_no_data_set(fake: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["train", "model=last.pt", "resume"]) == 0
    assert fake.calls == [("train", {"resume": True})]
    assert capsys.readouterr().err == ""


def test_validation_keeps_the_data_set_of_the_training(fake: FakeModel) -> None:
    fake.overrides["data"] = "trained-on.yaml"
    assert app.main(["val", "model=best.pt"]) == 0
    assert fake.calls == [("val", {})]


def test_export_names_its_default_format(fake: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["export", "model=best.pt"]) == 0
    assert fake.calls == [("export", {"format": "torchscript"})]
    assert "'format' is missing" in capsys.readouterr().err


def test_a_task_word_that_does_not_fit_the_model_is_reported(
    fake: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.task = "segment"
    assert app.main(["multitask", "predict", "model=yolov8n-seg.pt", "source=a.jpg"]) == 0
    assert "'multitask' was asked for, but yolov8n-seg.pt is a segment model" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["segment", "train"], ["train", "task=segment"], ["val", "task=segment"]])
def test_a_task_says_what_the_label_lines_are(
    argv: list[str], fake: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main([*argv, "model=m.pt", "data=d.yaml"]) == 0
    assert [given for _, given in fake.calls] == [{"data": "d.yaml", "task": "segment"}]
    assert capsys.readouterr().err == ""
    assert app.main(["pose", "train", "model=m.pt", "data=d.yaml"]) == 0
    assert "running it as multitask. The switch of that branch is pose=True." in capsys.readouterr().err


def test_a_task_word_without_a_model_names_the_switch(fake: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["train", "segment", "data=d.yaml"]) == 0
    assert "the switch of a multitask model is segment=True" in capsys.readouterr().err


def test_an_untrained_model_is_reported(fake: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["predict", "model=yolov8n-multitask.yaml", "source=a.jpg"]) == 0
    assert "without trained weights" in capsys.readouterr().err


def test_a_configuration_file_fills_in_what_is_not_given(fake: FakeModel, tmp_path: Path) -> None:
    cfg = tmp_path / "mine.yaml"
    cfg.write_text("epochs: 7\nimgsz: 320\nmode: val\n")
    assert app.main(["train", "model=m.pt", "data=d.yaml", "imgsz=64", f"cfg={cfg}"]) == 0
    assert fake.calls == [("train", {"data": "d.yaml", "epochs": 7, "imgsz": 64})]


def test_the_arguments_of_a_run_are_accepted_as_a_file(fake: FakeModel, tmp_path: Path) -> None:
    from ultralytics.utils import YAML

    from yolo_multitask.args import full_cfg

    cfg = tmp_path / "args.yaml"
    run_args = {
        "task": "multitask",
        "model": "m.yaml",
        "data": "d.yaml",
        "save_dir": str(tmp_path),
        "tasks": ["detect"],
    }
    YAML.save(cfg, {**full_cfg(), **run_args, "label_task": "segment"})
    assert app.main(["train", f"cfg={cfg}", "pose=12.0"]) == 0
    ((_, given),) = fake.calls
    assert given["switches"] == {"segment": False, "pose": True, "track": False}
    assert (given["pose"], given["task"], given["data"]) == (12.0, "segment", "d.yaml")
    assert not {"tasks", "seg", "save_dir", "label_task"} & given.keys()


def test_a_wrong_key_in_a_configuration_file_is_named(
    fake: FakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = tmp_path / "mine.yaml"
    cfg.write_text("epoch: 7\n")
    assert app.main(["train", "model=m.pt", "data=d.yaml", f"cfg={cfg}"]) == 2
    assert "mine.yaml: unknown argument 'epoch'; did you mean 'epochs'?" in capsys.readouterr().err
    cfg.write_text("segment: 3\n")
    assert app.main(["train", "model=m.pt", "data=d.yaml", f"cfg={cfg}"]) == 2
    assert "mine.yaml: 'segment' must be True or False, got 3" in capsys.readouterr().err


def test_every_key_of_the_host_is_accepted() -> None:
    from ultralytics.utils import DEFAULT_CFG_DICT

    given = {k: v for k, v in DEFAULT_CFG_DICT.items() if v is not None and k != "mode"}
    parsed = run.parse([f"{key}={value}" for key, value in given.items()])
    assert parsed == given


def test_a_missing_checkpoint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["predict", "model=nowhere/best.pt", "source=a.jpg"]) == 1
    err = capsys.readouterr().err
    assert "nowhere/best.pt" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("model", ["yolov8n.yaml", "yolov8n-multitask.yaml"])
def test_predict_leaves_an_annotated_picture(model: str, image: Path, tmp_path: Path) -> None:
    argv = ["predict", f"model={model}", f"source={image}", "imgsz=64", f"project={tmp_path}", "name=out", "device=cpu"]
    assert app.main(argv) == 0
    assert (tmp_path / "out" / "picture.jpg").is_file()


def test_checks_agree_with_the_installed_versions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from yolo_multitask import host

    assert app.main(["checks"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("ultralytics", "torch", "onnxruntime", "registered", "yolov8-multitask.yaml"))

    monkeypatch.setattr(host, "HOST_VERSION", "8.3.0")
    assert app.main(["checks"]) == 1
    captured = capsys.readouterr()
    assert "not supported" in captured.out
    assert "found 8.3.0" in captured.err
    assert "pip install" in captured.err


def test_the_demo_gets_its_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[dict[str, Any]] = []
    stand_in = SimpleNamespace(run_demo=lambda **kwargs: calls.append(kwargs))
    monkeypatch.setitem(sys.modules, "yolo_multitask.demo", stand_in)
    assert app.main(["demo"]) == 0
    assert app.main(["demo", f"out={tmp_path}", "long=True", "model=demo26-multitask.yaml"]) == 0
    assert calls == [
        {"out": Path("ymt-demo"), "long": False, "model": None},
        {"out": tmp_path, "long": True, "model": "demo26-multitask.yaml"},
    ]


@pytest.mark.parametrize(
    "argv",
    [["--help"], ["train", "--help"], ["data", "convert-coco", "-h"], ["data", "convert-mot", "-h"], ["--version"], []],
)
def test_help_does_not_wait_for_torch(argv: list[str]) -> None:
    code = (
        "import sys; from yolo_multitask.cli.app import main; code = main(sys.argv[1:]); "
        "assert not {'torch', 'ultralytics', 'cv2'} & set(sys.modules); sys.exit(code)"
    )
    env = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert ("ymt" in done.stdout) or (__version__ in done.stdout)
