from __future__ import annotations

import pandas as pd
import pytest
from synthetic_records import make_measure, make_record, small_run

from qbench.cell import Measurement, MeasureRecord, Record, Status
from qbench.errors import UnknownNameError
from qbench.report.aggregate import MethodRow, MethodTable, method_table
from qbench.report.cells import cells_frame
from qbench.report.entries import named, natural
from qbench.report.metrics import COST_METRICS, METRICS
from qbench.train.settings import TrainSettings


def rows_of(records: list[Record], measures: list[MeasureRecord] | None = None) -> dict[str, MethodRow]:
    return {row.label: row for row in method_table(records, measures or []).rows}


def two_methods(**of_banner: object) -> list[Record]:
    base = [make_record("fp32", seed, 99.0 - seed) for seed in (0, 1)]
    return [*base, *(make_record("banner8", seed, 98.0 - seed, **of_banner) for seed in (0, 1))]


def test_rows_are_ordered_whatever_the_order_of_records() -> None:
    records, measures = small_run()
    table = method_table(records, measures)
    assert [row.label for row in table.rows] == ["fp32", "bf16", "banner8", "graham[bits=4]", "wageubn"]
    assert method_table(records[::-1], measures[::-1]) == table


def test_options_sort_as_numbers() -> None:
    labels = ["graham[bits=16]", "graham[bits=8]", "graham[bits=2]"]
    assert list(rows_of([make_record(label) for label in labels])) == labels[::-1]


def test_labels_of_any_text_are_ordered() -> None:
    labels = ["", "8\N{SUPERSCRIPT TWO}", "9", "10", "a", "a2", "a10"]
    assert sorted(labels[3:] + labels[:3], key=natural) == labels


def test_options_of_a_model_are_named_in_one_order() -> None:
    assert named("resnet8", {"width": 8, "depth": 2}) == "resnet8[depth=2,width=8]"


def test_options_that_the_label_does_not_show_are_told() -> None:
    options = {"bits": 4, "error_bits": 5, "wide": True}
    record = make_record("banner8[error_bits=5]", options=options, changed=options)
    assert rows_of([record])["banner8[error_bits=5]"].notes == ("banner8 with bits 4, wide true",)


def test_each_arithmetic_is_compared_with_the_baseline_in_its_own() -> None:
    records = [
        make_record(label, top1=top1, arithmetic=arithmetic)
        for label, top1, arithmetic in (
            ("fp32", 99.0, "integer"), ("fp32", 95.0, "simulated"), ("r", 94.0, "integer"), ("r", 94.0, "simulated")
        )
    ]  # fmt: skip
    rows = {(row.label, row.arithmetic): row for row in method_table(records, []).rows}
    assert rows["r", "integer"].figures["top1_difference"].value == -5.0
    assert rows["r", "simulated"].figures["top1_difference"].value == -1.0


def test_accuracy_and_paired_difference() -> None:
    banner = rows_of(two_methods())["banner8"]
    assert banner.figures["top1"].value == 97.5
    assert banner.figures["top1"].spread == pytest.approx(0.5**0.5)
    assert (banner.figures["top1_difference"].value, banner.figures["top1_difference"].spread) == (-1.0, None)


def test_divergence_is_counted_and_leaves_the_mean() -> None:
    row = rows_of(small_run()[0])["graham[bits=4]"]
    assert row.status_text == "2 ok, 1 diverged"
    assert (row.figures["top1"].count, row.figures["top1_difference"].count) == (2, 2)
    assert "seed 2 diverged at step 41" in row.notes


@pytest.mark.parametrize(
    ("shas", "reason"),
    [
        (("other", "order0", "eval"), "other initial weights (init_sha)"),
        (("init0", "other", "eval"), "other batches (order_sha)"),
        (("init0", "order0", "other"), "other evaluation items (eval_sha)"),
    ],
)
def test_comparison_is_refused_where_fingerprints_differ(shas: tuple[str, str, str], reason: str) -> None:
    records = [make_record("fp32"), make_record("banner8", shas=shas)]
    row = rows_of(records)["banner8"]
    assert "top1_difference" not in row.figures
    assert row.notes == (f"not compared with fp32: {reason} at seed 0",)
    assert row.figures["top1"].value == 99.0


def test_fingerprints_of_seeds_without_a_partner_do_not_matter() -> None:
    records = [make_record("fp32", 0), make_record("banner8", 0), make_record("banner8", 1, shas=("x", "y", "z"))]
    assert rows_of(records)["banner8"].figures["top1_difference"].count == 1


def test_methods_without_a_seed_in_common_are_not_compared_and_it_is_said() -> None:
    records = [make_record("fp32", seed, 99.0) for seed in (0, 1)] + [make_record("banner8", 2, 99.5)]
    row = rows_of(records)["banner8"]
    assert "top1_difference" not in row.figures
    assert row.notes == ("not compared with fp32: they finished no seed in common",)
    assert not row.figures["top1"].best


def test_a_baseline_that_never_finished_says_so_itself() -> None:
    records = [make_record("fp32", 0, None, status=Status.DIVERGED)]
    records += [make_record("banner8", 0, 99.0), make_record("r", 0, 98.0)]
    rows = rows_of(records)
    assert not rows["banner8"].notes
    assert rows["banner8"].figures["top1"].best


def test_a_diverged_cell_consumed_fewer_batches_and_refuses_nothing() -> None:
    records = [
        *two_methods(),
        make_record("fp32", 2),
        make_record("banner8", 2, None, status=Status.DIVERGED, diverged_step=3, shas=("init2", "cut short", "eval")),
    ]
    row = rows_of(records)["banner8"]
    assert row.figures["top1_difference"].count == 2
    assert row.notes == ("seed 2 diverged at step 3",)


def test_without_baseline_no_differences_and_it_is_said() -> None:
    table = method_table([make_record("banner8")], [make_measure("banner8")])
    assert table.notes == ("no fp32 run on resnet8, digits: no differences and no ratios",)
    assert not {"top1_difference", "train_speed_ratio", "peak_train_ratio"} & table.rows[0].figures.keys()
    assert "train_images_per_s" in table.rows[0].figures


def test_another_baseline() -> None:
    table = method_table(*small_run(), baseline="bf16")
    fp32 = next(row for row in table.rows if row.label == "fp32")
    assert fp32.figures["top1_difference"].value == pytest.approx((0.1 - 0.05 + 0.0) / 3)
    with pytest.raises(UnknownNameError, match="did you mean 'banner8'"):
        method_table(*small_run(), baseline="baner8")


def test_other_settings_are_listed_with_their_reason() -> None:
    notes = rows_of(small_run()[0])["wageubn"].notes
    assert notes[-1] == (
        "trained with optimizer.lr 0.01 (fp32: 0.1); because: the paper uses a smaller rate | 10 % of ours"
    )


def test_another_machine_or_software_is_told() -> None:
    base, other = make_record("fp32"), make_record("sr")
    here = {**base.environment, "worker_threads": 1}
    there = {**here, "worker_threads": 2, "libraries": {"torch": "2.14.0", "numpy": "2.4.0"}}
    base, other = (r.model_copy(update={"environment": e}) for r, e in ((base, here), (other, there)))
    told = "trained elsewhere: threads 2 (fp32: 1), torch 2.14.0 (fp32: 2.13.0), numpy 2.4.0 (fp32: unknown)"
    assert rows_of([base, other])["sr"].notes == (told,)
    assert rows_of([base, other.model_copy(update={"environment": here})])["sr"].notes == ()
    bare = other.model_copy(update={"environment": {"cpu": 3}})
    assert "CPU unknown (fp32: Test CPU)" in rows_of([base, bare])["sr"].notes[0]


def test_speed_is_the_median_over_rounds() -> None:
    figure = rows_of([make_record()], [make_measure(train_ms=(64.0, 32.0, 128.0))])["fp32"].figures[
        "train_images_per_s"
    ]
    assert (figure.value, figure.spread, figure.count) == (pytest.approx(1000.0), pytest.approx(750.0), 3)


def test_ratios_are_paired_by_round() -> None:
    # Each round of fp32 is twice as fast as banner8's of the same round, while the machine slows down tenfold.
    measures = [make_measure("fp32", (10.0, 100.0, 50.0)), make_measure("banner8", (20.0, 200.0, 100.0))]
    ratio = rows_of(two_methods(), measures)["banner8"].figures["train_speed_ratio"]
    assert (ratio.value, ratio.spread) == (pytest.approx(0.5), pytest.approx(0.0))


def test_no_ratio_to_a_baseline_that_keeps_nothing() -> None:
    records = [make_record("fp32"), make_record("sr")]
    row = rows_of(records, [make_measure("fp32", peak=1), make_measure("sr", peak=8)])["sr"]
    assert "saved_ratio" not in row.figures
    assert row.figures["peak_train_ratio"].value == 8.0


def test_no_ratio_between_sessions() -> None:
    row = rows_of(two_methods(), [make_measure("fp32"), make_measure("banner8", run="run2")])["banner8"]
    assert "train_speed_ratio" not in row.figures
    assert row.notes == ("no ratios: measured in another session than fp32",)


def test_a_step_that_took_no_time_has_no_speed() -> None:
    figures = rows_of([make_record()], [make_measure(train_ms=(0.0,))])["fp32"].figures
    assert "train_images_per_s" not in figures and "peak_train_bytes" in figures


def test_speed_and_energy_that_are_no_numbers_are_left_out() -> None:
    measure = make_measure("fp32", (60.0, 62.0))
    odd = {"train_step_s": (1e-320,), "energy_j_per_image": float("nan")}
    rounds = (measure.rounds[0].model_copy(update=odd), measure.rounds[1])
    measures = [measure.model_copy(update={"rounds": rounds})]
    (row,) = method_table([make_record()], measures).rows
    assert row.figures["train_images_per_s"].count == 1
    assert "energy_j_per_image" not in row.figures
    (cell,) = cells_frame([make_record()], measures).to_dict("records")
    assert cell["train_images_per_s"] == pytest.approx(64 / 0.062)
    assert pd.isna(cell["energy_j_per_image"])


def test_rounds_that_failed_are_left_out() -> None:
    whole = make_measure("fp32", (64.0, 32.0))
    failed = Measurement(status=Status.OOM, message="too big", run="run1", round=2)
    row = rows_of([make_record()], [whole.model_copy(update={"rounds": (*whole.rounds, failed)})])["fp32"]
    assert row.figures["train_images_per_s"].count == 2
    assert row.notes == ("measurement: oom, too big",)


def test_a_failed_round_that_a_later_session_made_good_is_no_news() -> None:
    failed = Measurement(status=Status.KILLED, message="a crowded machine", run="run0", round=0)
    whole = make_measure("fp32", (64.0, 32.0))
    (row,) = method_table([make_record()], [whole.model_copy(update={"rounds": (failed, *whole.rounds)})]).rows
    assert row.notes == ()


def test_a_method_whose_rounds_all_failed_is_of_no_session() -> None:
    failed = Measurement(status=Status.OOM, message="too big", run="run2", round=0)
    measures = [make_measure("fp32"), make_measure("banner8").model_copy(update={"rounds": (failed,)})]
    assert rows_of(two_methods(), measures)["banner8"].notes == ("measurement: oom, too big",)


def test_simulated_speed_and_memory_are_marked() -> None:
    rows = rows_of(*small_run())
    costs = {metric.name for metric in COST_METRICS}
    for name, figure in rows["banner8"].figures.items():
        assert figure.simulated is (name in costs)
    assert not any(figure.simulated for figure in rows["fp32"].figures.values())


def test_one_simulated_round_marks_all() -> None:
    measure = make_measure(simulated=False)
    rounds = (measure.rounds[0].model_copy(update={"simulated": True}), *measure.rounds[1:])
    row = rows_of([make_record()], [measure.model_copy(update={"rounds": rounds})])["fp32"]
    assert row.figures["train_images_per_s"].simulated


def test_an_accuracy_that_is_not_compared_is_not_the_best() -> None:
    easier = make_record("sr", top1=99.9, shas=("init0", "order0", "other"))
    records = [make_record("fp32", top1=98.0), make_record("banner8", top1=97.0), easier]
    assert best(method_table(records, []), "top1") == ["fp32"]


def best(table: MethodTable, metric: str) -> list[str]:
    return [row.label for row in table.rows if metric in row.figures and row.figures[metric].best]


def test_a_simulation_is_never_the_fastest_or_the_smallest() -> None:
    measures = [
        make_measure("fp32", (64.0,), simulated=False, peak=4000),
        make_measure("bf16", (50.0,), simulated=False, peak=3000),
        make_measure("banner8", (1.0,), simulated=True, peak=10, model=1),
    ]
    table = method_table([make_record(label) for label in ("fp32", "bf16", "banner8")], measures)
    assert best(table, "train_images_per_s") == ["bf16"]
    assert best(table, "peak_train_ratio") == ["bf16"]
    assert best(table, "model_bytes") == []  # of the two that may be best, neither is smaller


def test_a_simulation_that_is_as_fast_as_the_fastest_is_not_the_best() -> None:
    measures = [
        make_measure(label, (ms,), simulated=label == "banner8")
        for label, ms in (("fp32", 64.0), ("bf16", 50.0), ("banner8", 50.0))
    ]
    table = method_table([make_record(label) for label in ("fp32", "bf16", "banner8")], measures)
    assert best(table, "train_images_per_s") == ["bf16"]


def test_survivors_of_divergence_are_not_the_best() -> None:
    records = [
        *two_methods(),
        make_record("sr", 0, 99.9),
        make_record("sr", 1, None, status=Status.DIVERGED, diverged_step=1),
    ]
    assert best(method_table(records, []), "top1") == ["fp32"]


def test_a_mean_over_fewer_seeds_than_others_is_not_the_best() -> None:
    records = [*two_methods(), make_record("sr", 0, 99.9)]
    assert best(method_table(records, []), "top1") == ["fp32"]


def test_means_that_differ_in_their_last_bit_are_both_the_best() -> None:
    """Of 10,000 items each gets 27,171 right in three trainings; summed as percentages that is not the same number."""
    hits = {"fp32": (9064, 9023, 9084), "r": (9069, 9021, 9081), "sr": (9000, 9000, 9000)}
    records = [make_record(label, seed, 100 * of[seed] / 10_000) for label, of in hits.items() for seed in range(3)]
    rows = rows_of(records)
    assert rows["fp32"].figures["top1"].value != rows["r"].figures["top1"].value
    assert best(method_table(records, []), "top1") == ["fp32", "r"]


def test_a_speed_of_another_session_is_not_the_best() -> None:
    measures = [
        make_measure("fp32", (64.0,), simulated=False),
        make_measure("bf16", (50.0,), simulated=False),
        make_measure("banner8", (10.0,), simulated=False, run="run2", peak=10),
    ]
    table = method_table([make_record(label) for label in ("fp32", "bf16", "banner8")], measures)
    assert best(table, "train_images_per_s") == ["bf16"]
    assert best(table, "peak_train_bytes") == []


def test_speeds_of_two_sessions_are_compared_by_their_ratios_alone() -> None:
    """The machine was twice as fast in the second session, which measured the baseline again beside one more method."""
    slow, fast = (
        make_measure("fp32", (64.0,), simulated=False),
        make_measure("fp32", (32.0,), simulated=False, run="run2"),
    )
    measures = [
        slow.model_copy(update={"rounds": (*slow.rounds, *fast.rounds)}),
        make_measure("bf16", (40.0,), simulated=False),
        make_measure("r", (50.0,), simulated=False),
        make_measure("sr", (30.0,), simulated=False, run="run2", peak=10),
    ]
    table = method_table([make_record(label) for label in ("fp32", "bf16", "r", "sr")], measures)
    assert best(table, "train_speed_ratio") == ["bf16"]
    assert best(table, "train_images_per_s") == ["bf16"]
    assert best(table, "peak_train_bytes") == ["sr"]


def test_a_method_that_did_not_run_every_seed_is_not_the_fastest() -> None:
    measures = [
        make_measure(label, (ms,), simulated=False, peak=int(1000 * ms))
        for label, ms in (("fp32", 64.0), ("banner8", 50.0), ("sr", 10.0))
    ]
    table = method_table([*two_methods(), make_record("sr", 0, 90.0)], measures)
    assert best(table, "train_images_per_s") == best(table, "peak_train_ratio") == ["banner8"]


def test_speeds_without_a_measured_baseline_are_compared() -> None:
    measures = [make_measure(label, (ms,), simulated=False) for label, ms in (("bf16", 50.0), ("banner8", 10.0))]
    table = method_table([make_record(label) for label in ("fp32", "bf16", "banner8")], measures)
    assert best(table, "train_images_per_s") == ["banner8"]


def test_one_method_alone_is_not_the_best() -> None:
    assert best(method_table([make_record()], []), "top1") == []


def test_every_metric_defines_its_direction() -> None:
    directions = {metric.name: metric.better for metric in METRICS}
    assert directions["top1"] == directions["train_images_per_s"] == "higher"
    assert directions["peak_train_ratio"] == directions["model_bytes"] == directions["energy_j_per_image"] == "lower"


def test_models_and_data_sets_are_compared_apart() -> None:
    records = [make_record("fp32", model=model, model_options=options) for model, options in
               (("mlp", {}), ("resnet8", {}), ("resnet8", {"width": 8}))]  # fmt: skip
    settings = [setting.model for setting, _ in method_table(records, []).settings()]
    assert settings == ["mlp", "resnet8", "resnet8[width=8]"]


def test_of_two_runs_of_one_cell_the_later_counts() -> None:
    longer = TrainSettings(epochs=9, batch_size=64)
    old, new = make_record(top1=10.0), make_record(top1=99.0, finished="2026-02-01T00:00:00+00:00", train=longer)
    row = rows_of([new, old])["fp32"]
    assert (row.figures["top1"].value, row.figures["top1"].count) == (99.0, 1)


def test_of_two_measurements_of_one_method_the_later_counts() -> None:
    old, new = make_measure(train_ms=(64.0,)), make_measure(train_ms=(32.0,))
    new = new.model_copy(update={"key": "a", "finished": "2026-02-01T00:00:00+00:00"})
    row = rows_of([make_record()], [new, old])["fp32"]
    assert row.figures["train_images_per_s"].value == pytest.approx(2000.0)


def test_nothing_in_nothing_out() -> None:
    assert method_table([], []).rows == ()


@pytest.mark.parametrize(
    ("taken", "note"),
    [
        ((0.0, 0.05, 0.4), None),  # a disturbed round does not move the median
        ((0.3, 0.05, 0.4), "measured on a busy machine: other processes took about 30 % of the CPUs from it"),
        ((0.09, 0.09, 0.09), None),
        ((0.11, 0.11, 0.11), "measured on a busy machine: other processes took about 10 % of the CPUs from it"),
        ((None, None, 0.5), "measured on a busy machine: other processes took about 50 % of the CPUs from it"),
        (None, None),
    ],
)
def test_a_busy_machine_is_told(taken: tuple[float | None, ...] | None, note: str | None) -> None:
    records = [make_record(label, 0, 99.0) for label in ("fp32", "banner8")]
    measures = [make_measure("fp32"), make_measure("banner8", taken=taken)]
    baseline, row = method_table(records, measures).rows
    assert not [told for told in baseline.notes if "busy" in told]
    assert [told for told in row.notes if "busy" in told] == ([] if note is None else [note])


@pytest.mark.parametrize(
    ("of_baseline", "replayed", "note"),
    [
        (10, 10, None),
        (10, 7, None),
        (0, 0, None),
        (10, 0, "its timed training steps were not replayed (fp32: replayed)"),
        (0, 10, "its timed training steps were replayed (fp32: not replayed)"),
        (None, 10, None),  # measured before it was noted
        (10, None, None),
    ],
)
def test_a_method_whose_steps_cannot_be_replayed_is_told(
    of_baseline: int | None, replayed: int | None, note: str | None
) -> None:
    records = [make_record(label, 0, 99.0) for label in ("fp32", "banner8")]
    measures = [make_measure("fp32", replayed=of_baseline), make_measure("banner8", replayed=replayed)]
    baseline, row = method_table(records, measures).rows
    assert not [told for told in baseline.notes if "replayed" in told]
    assert [told for told in row.notes if "replayed" in told] == ([] if note is None else [note])


def test_a_method_whose_inference_cannot_be_replayed_is_told() -> None:
    records = [make_record(label, 0, 99.0) for label in ("fp32", "banner8")]
    measures = [
        make_measure("fp32", replayed=9, infer_replayed=9),
        make_measure("banner8", replayed=9, infer_replayed=0),
    ]
    baseline, row = method_table(records, measures).rows
    assert not [told for told in baseline.notes if "replayed" in told]
    notes = [told for told in row.notes if "replayed" in told]
    assert notes == ["its timed inference batches were not replayed (fp32: replayed)"]
