"""``qbench data``: prepare and look at data sets."""

from pathlib import Path
from typing import Annotated

import typer

from qbench.cli.funnel import Verb, Verbs

app = typer.Typer(cls=Verbs, no_args_is_help=True, rich_markup_mode=None, epilog="Example: qbench data info digits",
                  help="Prepare data sets, look at them, write samples.")  # fmt: skip

Root = Annotated[Path | None, typer.Option("--data", help="Where a data set on disk lies.")]
Name = Annotated[str, typer.Argument(help="A data set; see 'qbench list datasets'.", metavar="NAME")]


@app.command(cls=Verb, epilog="Example: qbench data sample imagenet --out sample")
def sample(
    name: Annotated[str, typer.Argument(help="imagenet.", metavar="NAME")],
    out: Annotated[Path, typer.Option(help="A new or empty directory.")],
    classes: Annotated[int, typer.Option(help="Class folders.")] = 8,
    train_per_class: Annotated[int, typer.Option(help="Training pictures of each class.")] = 40,
    val_per_class: Annotated[int, typer.Option(help="Test pictures of each class.")] = 10,
) -> None:
    """Write a small stand-in for a data set.

    A tree of generated pictures in the data set's layout, to try everything without the real one.
    """
    from qbench.data import write_sample_imagenet
    from qbench.errors import UnknownNameError

    if name != "imagenet":
        raise UnknownNameError(f"there is no sample of '{name}'; known: imagenet")
    write_sample_imagenet(out, classes=classes, train_per_class=train_per_class, val_per_class=val_per_class)
    print(f"{classes} classes with {train_per_class} training and {val_per_class} test pictures each: {out}")
    print(f"try it: qbench run imagenet --profile quick --data {out}")


@app.command(cls=Verb, epilog="Example: qbench data prepare glyphs")
def prepare(name: Name, data: Root = None) -> None:
    """Make a data set ready, so that no run has to wait."""
    from qbench.data import cache_dir, load_dataset

    dataset = load_dataset(name, root=data)
    print(f"{name} is ready: {len(dataset.train)} training items (cache: {cache_dir()})")


@app.command(cls=Verb, epilog="Example: qbench data info digits")
def info(name: Name, data: Root = None) -> None:
    """Show size, origin and fingerprints of a data set."""
    from qbench.data import load_dataset

    dataset = load_dataset(name, root=data)
    print(f"{name}: {dataset.source}")
    print(f"{dataset.num_classes} classes, {dataset.in_channels} x {dataset.image_size} x {dataset.image_size}")
    for part in ("train", "validation", "test"):
        split = getattr(dataset, part)
        print(f"{part}: {len(split)} items, fingerprint {split.content_sha()}")
