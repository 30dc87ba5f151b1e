"""Tables: the host's columns and ours, the same for every kind of result."""

from __future__ import annotations

import ast
import csv
import io
import sys

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from support.results import CLASSES, IDS, NAMES, E, H, N, W, make_results, plain
from ultralytics.engine.results import Results as HostResults

from yolo_multitask.interop import arrays_of, to_csv, to_df

HOST = ["name", "class", "confidence", "box", "track_id", "segments", "keypoints"]


def host_table(result: HostResults, normalize: bool) -> pl.DataFrame:
    return HostResults.to_df(result, normalize=normalize)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_hosts_columns_and_ours(normalize: bool, dims: int) -> None:
    result = make_results(dims=dims)
    table = result.to_df(normalize)
    assert table.columns == [*HOST, "embedding", "next_box"]
    assert_frame_equal(table[HOST], host_table(result, normalize), check_exact=True)
    assert table["track_id"].to_list() == IDS
    np.testing.assert_array_equal(table["embedding"].to_numpy(), result.embeddings.data)
    sides = [W, H, W, H] if normalize else [1] * 4
    boxes = np.array([list(box.values()) for box in table["next_box"]])
    np.testing.assert_allclose(boxes, result.next_boxes.xyxy / torch.tensor(sides), atol=5.1e-6)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_results_without_torch_give_the_same_table(normalize: bool, tracked: bool, dims: int) -> None:
    masks = make_results().masks.data
    masks[1, :, 55:] = 0  # where a mask has parts, they are joined in another order
    result = make_results(tracked, dims, masks=masks)
    assert_frame_equal(plain(result).to_df(normalize), result.to_df(normalize), check_exact=True)
    assert_frame_equal(to_df(plain(result), decimals=1), to_df(result, decimals=1), check_exact=True)


def test_only_the_columns_that_there_are() -> None:
    result = make_results(tracked=False, masks=None, keypoints=None, embeddings=None, next_boxes=None)
    for some in (result, plain(result)):
        assert some.to_df().columns == HOST[:4]


@pytest.mark.parametrize("kind", ["results", "plain"])
def test_tables_of_a_video_can_be_concatenated(kind: str) -> None:
    result = make_results()
    frames = [result[:0], result, result[[2]]]
    tables = [(frame if kind == "results" else plain(frame)).to_df() for frame in frames]
    assert [len(table) for table in tables] == [0, N, 1]
    assert tables[0].schema == tables[1].schema
    whole = pl.concat(tables)
    assert whole["track_id"].to_list() == [*IDS, IDS[2]]
    assert whole["embedding"].to_numpy().shape == (N + 1, E)


def test_results_of_stock_models() -> None:
    image = np.zeros((H, W, 3), np.uint8)
    turned = HostResults(image, path="a", names=NAMES, obb=torch.tensor([[50.0, 40, 20, 10, 0.3, 3, 0.5, 1]]))
    assert_frame_equal(to_df(turned), host_table(turned, False), check_exact=True)
    assert to_df(turned[:0]).schema == to_df(turned).schema


@pytest.mark.parametrize("kind", ["results", "plain"])
def test_csv_can_be_read_back(kind: str) -> None:
    result = make_results() if kind == "results" else plain(make_results())
    table, rows = result.to_df(), list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [int(row["class"]) for row in rows] == CLASSES
    for name in table.columns:
        values = [row[name] if name == "name" else ast.literal_eval(row[name]) for row in rows]
        assert values == table[name].to_list(), name


def test_csv_of_the_host_stays_in_it() -> None:
    result = make_results(embeddings=None, next_boxes=None)
    assert result.to_csv() == HostResults.to_csv(result)
    assert to_csv(result[:0]) == ",".join(HOST) + "\n"


def test_points_are_a_column_of_their_own() -> None:
    nan = float("nan")
    result = make_results(points=torch.tensor([[nan, nan, nan], [30.5, 45, 0], [60, 9, 1]]))
    table = result.to_df()
    assert table.columns == [*HOST, "point", "embedding", "next_box"]
    assert table["point"].to_list() == [
        None,
        {"x": 30.5, "y": 45, "interpolated": False},
        {"x": 60, "y": 9, "interpolated": True},
    ]
    assert result.to_df(normalize=True)["point"][1] == {"x": round(30.5 / W, 5), "y": 0.5, "interpolated": False}
    assert result[:0].to_df().schema.items() >= {"point": table.schema["point"]}.items()
    np.testing.assert_array_equal(arrays_of(result).points, result.points.data)
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [ast.literal_eval(row["point"]) for row in rows] == table["point"].to_list()


def test_json_has_embeddings_too() -> None:
    result = make_results()
    again = pl.read_json(io.StringIO(result.to_json()))
    np.testing.assert_allclose(again["embedding"].to_list(), result.embeddings.data, rtol=1e-6)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    result = plain(make_results())
    for name, function in (("polars", result.to_df), ("supervision", result.to_supervision)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=f"expected {name} to be installed.*run 'pip install {name}'"):
            function()
