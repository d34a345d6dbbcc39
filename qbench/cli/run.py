"""``qbench run``: train and measure what a suite describes, then table and plots."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qbench.cli.completion import complete_method, complete_probe, complete_suite

if TYPE_CHECKING:
    from qbench.suite import Overrides

EXAMPLES = """\b
Examples:
  qbench run digits
  qbench run digits --profile quick --dry-run
  qbench run digits -m fp32 -m "graham[bits=2,3,4]" --seeds 0,1,2
  qbench run digits --probe cosine --probe "weight_change[k=5]"
  qbench run imagenet --data ~/imagenet
  qbench run rounding_theory --profile quick"""


def run(
    suite: Annotated[
        str, typer.Argument(help="A built-in suite or a YAML file.", metavar="SUITE", autocompletion=complete_suite)
    ],
    out: Annotated[Path | None, typer.Option(help="Results directory [default: results/runs/SUITE].")] = None,
    profile: Annotated[str | None, typer.Option(help="A profile of the suite, such as quick.")] = None,
    data: Annotated[Path | None, typer.Option(help="Where data sets on disk lie.")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--method",
            help="Run these methods instead: NAME, FILE.py or FILE.py:NAME, with or without [option=value,value]; "
            "may be repeated.",
            autocompletion=complete_method,
        ),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, such as 0,1,2 or 0-4 [default: the suite's].")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of every cell [default: the suite's].", min=1)] = None,
    arithmetic: Annotated[str | None, typer.Option(help="simulated or integer [default: the suite's].")] = None,
    probe: Annotated[
        list[str] | None,
        typer.Option(
            help="Observe this while training: NAME or NAME[option=value] (see 'qbench list probes'); may be repeated.",
            autocompletion=complete_probe,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, or auto: a GPU where there is one.")] = "auto",
    jobs: Annotated[int | None, typer.Option(help="Cells trained at a time [default: as cores allow].")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of each cell [default: 1 on a CPU].")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and do nothing.")] = False,
    no_measure: Annotated[bool, typer.Option("--no-measure", help="Leave speed and memory out.")] = False,
    no_retry: Annotated[bool, typer.Option("--no-retry", help="Leave cells that failed before as they are.")] = False,
) -> None:
    """Run a suite: train, measure, table and plots.

    Trains every cell of SUITE that has no result yet, measures speed and memory, and writes tables and plots.
    A suite of kind theory compares experiments with known answers instead. Running again continues where it stopped.
    Exit code 1 if a cell failed or a known answer was missed, 130 after Ctrl-C.
    """
    from qbench.suite.theory import suite_kind

    if suite_kind(suite) == "theory":
        from qbench.cli.theory import run_theory_suite

        meaningless = {
            "--method": method, "--epochs": epochs, "--data": data, "--arithmetic": arithmetic,
            "--device": None if device in {"auto", "cpu"} else device, "--no-measure": no_measure or None,
            "--probe": probe,
        }  # fmt: skip
        raise typer.Exit(
            run_theory_suite(
                suite, out, meaningless, profile=profile, seeds=seeds, jobs=jobs, threads=threads, dry_run=dry_run,
                retry=not no_retry,
            )
        )  # fmt: skip
    from qbench.cli.arguments import one_of, seed_list
    from qbench.suite import Overrides

    overrides = Overrides(
        methods=tuple(method or ()),
        seeds=seed_list(seeds),
        epochs=epochs,
        data_root=data,
        arithmetic=one_of(arithmetic, "simulated", "integer", option="--arithmetic"),
        probes=tuple(probe or ()),
    )
    raise typer.Exit(
        _run_training_suite(
            suite, out, overrides, profile=profile, device=device, jobs=jobs, threads=threads, dry_run=dry_run,
            measures=not no_measure, retry=not no_retry,
        )
    )  # fmt: skip


def _run_training_suite(
    suite: str,
    out: Path | None,
    overrides: "Overrides",
    *,
    profile: str | None,
    device: str,
    jobs: int | None,
    threads: int | None,
    dry_run: bool,
    measures: bool,
    retry: bool,
) -> int:
    """Run a suite of cells, or show its plan; the exit code."""
    from qbench.cli.conclusion import conclude
    from qbench.cli.planning import print_plan
    from qbench.cli.progress import display
    from qbench.cli.results import RUNS
    from qbench.engine import plan_suite, run_suite
    from qbench.suite import load_suite

    loaded = load_suite(suite, profile=profile, overrides=overrides)
    if not measures:
        loaded = loaded.model_copy(update={"measure": loaded.measure.model_copy(update={"enabled": False})})
    out = out or RUNS / loaded.name
    if dry_run:
        print_plan(plan_suite(loaded, out, device=device, jobs=jobs, threads=threads), out)
        return 0
    with display() as observer:
        summary = run_suite(loaded, out, device=device, jobs=jobs, threads=threads, retry=retry, observer=observer)
    conclude(summary)
    return summary.exit_code
