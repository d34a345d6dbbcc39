from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from synthetic_records import make_measure, make_record, small_run

from qbench.cell import Attempt, Status
from qbench.errors import InputError
from qbench.report.cells import STABLE_COLUMNS, cells_frame, write_cells

# As the documentation promises them; changing one breaks the users' notebooks.
PROMISED = """
suite run method options arithmetic model dataset seed device status epochs top1 top5 loss train_images_per_s
infer_images_per_s peak_train_bytes saved_bytes model_bytes optimizer_bytes energy_j_per_image wall_s key init_sha
order_sha eval_sha
""".split()  # noqa: SIM905 - as the documentation lists them


def test_the_stable_columns_come_first_in_their_order() -> None:
    assert list(STABLE_COLUMNS) == PROMISED
    assert list(cells_frame(*small_run()).columns[: len(PROMISED)]) == PROMISED


def test_one_row_per_cell_with_values() -> None:
    frame = cells_frame(*small_run())
    assert len(frame) == 15
    row = frame[(frame.method == "banner8") & (frame.seed == 1)].iloc[0]
    assert (row.top1, row.status, row.options, row.init_sha) == (98.6, "ok", "{}", "init1")
    assert row.train_images_per_s == pytest.approx(64 / 0.12)
    assert (row.peak_train_bytes, bool(row.simulated), row.measured_seed) == (10_000_000, True, 0)
    assert row.kernels == "cpp (avx2)"


def test_what_was_not_measured_is_missing_and_not_zero() -> None:
    row = cells_frame([make_record("fp32", top1=None)], []).iloc[0]
    for column in ("top1", "train_images_per_s", "peak_train_bytes", "energy_j_per_image", "diverged_step"):
        assert pd.isna(row[column])


def test_a_cell_that_never_began_has_no_fingerprints() -> None:
    record = make_record("fp32", top1=None)
    record = record.model_copy(update={"outcome": record.outcome.model_copy(update={"fingerprints": None})})
    assert cells_frame([record], []).iloc[0][["init_sha", "order_sha", "eval_sha"]].isna().all()


def test_failed_attempts_are_counted() -> None:
    failed = Attempt(status=Status.OOM, message="", finished="2026-01-01T00:00:00Z")
    record = make_record().model_copy(update={"attempts": (failed, failed)})
    assert cells_frame([record], []).iloc[0].failed_attempts == 2


def test_not_a_number_is_missing() -> None:
    assert pd.isna(cells_frame([make_record(top1=float("nan"))], []).iloc[0].top1)


def test_types_do_not_depend_on_the_content() -> None:
    assert list(cells_frame([], []).dtypes) == list(cells_frame(*small_run()).dtypes)


def test_parquet_opens_in_one_line(tmp_path: Path) -> None:
    frame = cells_frame(*small_run())
    write_cells(frame, tmp_path / "cells.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "cells.parquet"), frame)
    assert [path.name for path in tmp_path.iterdir()] == ["cells.parquet"]


def test_parquet_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "cells.parquet"
    write_cells(cells_frame(*small_run()), path)
    write_cells(cells_frame([make_record()], [make_measure()]), path)
    assert len(pd.read_parquet(path)) == 1


def test_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*cells\.parquet"):
        write_cells(cells_frame([], []), tmp_path / "file" / "cells.parquet")
