"""Range batch norm against batch norm in training, everything else float32, by constant and number of chunks."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt

from qbench.options import PositiveInt
from qbench.theory.findings import Answer, Findings, Panel, Picture, beside, equals, estimate, points
from qbench.theory.networks import accuracy, adam, cell
from qbench.theory.progress import Progress

Constant = Literal["paper", "code", "exact"]

_FLOAT: dict[str, object] = {
    "bits": 32, "error_bits": 32, "wgrad_error": "fp32", "norm_input": False, "norm_error": False
}  # fmt: skip
SOURCE = (
    "Banner et al. 2018, section 6.2: no difference (10.5 and 10.7 % error on CIFAR-10, 32.5 and 32.4 % on ImageNet)"
)
_MARGIN = 1.0


def range_training(
    *,
    seed: int,
    progress: Progress,
    constants: tuple[Constant, ...] = ("paper", "code", "exact"),
    chunks: tuple[PositiveInt, ...] = (1, 16),
    model: str = "resnet8",
    dataset: str = "digits",
    training_epochs: PositiveInt = 12,
    batch_size: PositiveInt = 64,
    lr: Annotated[float, Gt(0)] = 0.01,
    seeds: Annotated[int, Ge(2)] = 3,
) -> Findings:
    """Accuracy of range batch norm less that of batch norm, in float32.

    constants: of the scale. chunks: over which ranges are averaged. model, dataset: trained for training_epochs in
    batches of batch_size, with Adam at lr and a cosine schedule. seeds: runs of each; both norms see the same weights
    and batches.
    """
    norms: list[tuple[str, dict[str, object]]] = [("batch norm", {"norm": "batch"})]
    norms += [
        (f"{constant}, {k} chunk{'s' if k > 1 else ''}", {"norm": "range", "constant": constant, "chunks": k})
        for constant in constants
        for k in chunks
    ]
    top1: dict[str, list[float]] = {name: [] for name, _ in norms}
    runs = [(name, options, seed + index) for index in range(seeds) for name, options in norms]
    train = adam(training_epochs, batch_size, lr)
    for number, (name, options, own_seed) in enumerate(runs):
        described = cell("banner8", {**_FLOAT, **options}, model=model, dataset=dataset, train=train, seed=own_seed)
        top1[name].append(accuracy(described, progress, number / len(runs), (number + 1) / len(runs)))
    text = f"{model} on {dataset}, {training_epochs} epochs, {seeds} seeds"
    return Findings(answers=tuple(_answers(top1, text)), pictures=(_picture(top1, f"{model} on {dataset}", seeds),))


def _answers(top1: dict[str, list[float]], text: str) -> list[Answer]:
    base = top1["batch norm"]
    answers = [beside("test accuracy (%), batch norm", text, estimate(base), None, "no known answer")]
    for name, values in top1.items():
        if values is base:
            continue
        difference = estimate([a - b for a, b in zip(values, base, strict=True)])
        answers.append(
            equals(
                f"accuracy less batch norm's (points), {name}", text, difference, 0.0, SOURCE, extra=_MARGIN,
                because="of a point, below what such runs can tell",
            )
        )  # fmt: skip
    return answers


def _picture(top1: dict[str, list[float]], where: str, seeds: int) -> Picture:
    names = [name for name in top1 if name != "batch norm"]
    base = top1["batch norm"]
    series = []
    for index, name in enumerate(names):
        differences = [a - b for a, b in zip(top1[name], base, strict=True)]
        series.append(points(name, name.partition(",")[0], [index], [estimate(differences)]))
    panel = Panel(
        x_label="constant and number of chunks",
        y_label="accuracy less batch norm's (points)",
        series=tuple(series),
        x_scale="names",
        level=(0.0, "batch norm"),
    )
    return Picture(
        name="range-training",
        title=f"{where}: range batch norm in float32",
        note=f"means over {seeds} seeds, with 4 standard errors",
        columns=1,
        panels=(panel,),
    )
