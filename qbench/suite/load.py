"""From the text of a suite file to a :class:`~qbench.suite.model.Suite`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from qbench.errors import InputError, SuiteError
from qbench.recipe import Arithmetic
from qbench.suite.choices import Choice, dataset_kind, model_kind, needs_root, read_choices
from qbench.suite.entries import Draft, Entry, pick, read_drafts
from qbench.suite.model import Suite
from qbench.suite.nodes import Node, graft, merge, read_yaml
from qbench.suite.notes import idle_measure, idle_probes, idle_train
from qbench.suite.probes import read_probes
from qbench.suite.profiles import chosen_profile
from qbench.suite.schema import SuiteFile, check
from qbench.suite.source import Source, find_source, shorten
from qbench.train.settings import TrainSettings


@dataclass(frozen=True)
class Overrides:
    """What the command line changes in a suite; None and empty leave it as it is.

    methods: selections such as ``graham[bits=2,3]``. data_root: where on-disk data sets lie, relative to the
    working directory. probes: instead of the suite's, such as ``weight_change[k=5]``.
    """

    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None
    epochs: int | None = None
    data_root: Path | None = None
    arithmetic: Arithmetic | None = None
    probes: tuple[str, ...] = ()


def load_suite(name_or_path: str | Path, *, profile: str | None = None, overrides: Overrides | None = None) -> Suite:
    """Read and check a suite: a built-in name (``digits``) or the path of a YAML file.

    profile: one of the file's ``profiles``, merged over it. What the command line overrides wins over the profile,
    and both win over what an entry of ``methods`` says. Raises :class:`SuiteError` or another InputError: one
    sentence with file and line.
    """
    source = find_source(str(name_or_path))
    return _Loader(source, read_yaml(source.text, source.shown), profile, overrides or Overrides()).suite()


class _Loader:
    """The steps of loading, which share the file, the profile and the overrides."""

    def __init__(self, source: Source, root: Node, profile: str | None, overrides: Overrides) -> None:
        self.source = source
        self.profile = profile
        self.overrides = overrides
        _refuse_theory(root)
        chosen = chosen_profile(root, profile, source.shown, partial(check, SuiteFile))
        self.overlays = [*filter(None, [chosen]), *_command_line(overrides)]
        self.root = root
        for overlay in self.overlays:
            self.root = merge(self.root, overlay)
        self.file = check(SuiteFile, self.root)

    def suite(self) -> Suite:
        _refuse_repeated_seeds(self.root)
        models = read_choices(self.root.at(["model"]), model_kind(), self.source.folder)
        datasets = read_choices(self.root.at(["dataset"]), dataset_kind(), self.source.folder)
        datasets, data_notes = self._with_data_root(datasets)
        entries = tuple(self._entries())
        probes = read_probes(self.root.get("probes"))
        return Suite(
            profile=self.profile,
            models=models,
            datasets=datasets,
            entries=entries,
            probes=probes,
            notes=(*data_notes, *self._notes(entries), *idle_probes(probes, self.file.train)),
            source=self.source.shown,
            **{key: getattr(self.file, key) for key in _TAKEN_OVER},
        )

    def _with_data_root(self, datasets: tuple[Choice, ...]) -> tuple[tuple[Choice, ...], list[str]]:
        if self.overrides.data_root is None:
            return datasets, []
        root = shorten(self.overrides.data_root.expanduser())
        if not any(needs_root(choice.name) for choice in datasets):
            return datasets, [f"--data {root} has no effect: no data set of this suite is read from a directory"]
        rooted = (c.model_copy(update={"root": root}) if needs_root(c.name) else c for c in datasets)
        return tuple(rooted), []

    def _entries(self) -> Iterator[Entry]:
        drafts = read_drafts(self.root.at(["methods"]), self.source.folder)
        if self.overrides.methods:
            drafts = pick(drafts, self.overrides.methods, "-m")
        first_at: dict[str, str] = {}
        for position, draft in enumerate(drafts):
            train = self._train(draft, position)
            for label, options in draft.combinations():
                if label in first_at:
                    # The command line has no place for a label.
                    way_out = (
                        "give the method of a file another name" if self.overrides.methods else "give one a 'label'"
                    )
                    raise SuiteError(
                        f"{draft.where}: '{label}' is already at {first_at[label]}; remove one of the two, "
                        f"or {way_out} if they differ"
                    )
                first_at[label] = draft.where
                yield Entry(method=draft.reference, label=label, options=options, train=train, because=draft.because)

    def _train(self, draft: Draft, position: int) -> TrainSettings:
        if draft.train is None:
            if draft.because is not None:
                raise SuiteError(f"{draft.where}: 'because' explains a 'train' section, and this entry has none")
            return self.file.train
        if self.file.protocol == "same":
            raise SuiteError(
                f"{draft.train.where}: 'train' of one method needs 'protocol: paper'; "
                "under 'protocol: same' every method trains alike"
            )
        if draft.because is None:
            raise SuiteError(f"{draft.where}: a method's own 'train' needs a 'because' line that says why")
        node = merge(self.root.get("train") or Node({}, self.root.where), draft.train)
        for overlay in self.overlays:
            # A profile that names methods itself knows their settings; its train section stays below theirs.
            if overlay.get("train") and not overlay.get("methods"):
                node = merge(node, overlay.at(["train"]))
        return check(TrainSettings, node, ("methods", position, "train"))

    def _notes(self, entries: Sequence[Entry]) -> Iterator[str]:
        yield from idle_train(self.file.train)
        yield from idle_measure(self.file.measure)
        for entry in entries:
            if entry.because is not None and entry.train == self.file.train:
                yield f"'train' of '{entry.label}' has no effect: it says what the suite says"


_TAKEN_OVER = ("name", "description", "protocol", "arithmetic", "seeds", "train", "measure")


def _refuse_theory(root: Node) -> None:
    kind = root.get("kind")
    if kind is not None and kind.value == "theory":
        raise SuiteError(f"{kind.where}: a suite of kind 'theory' trains no methods; use load_theory_suite")


def _command_line(overrides: Overrides) -> Iterator[Node]:
    if overrides.seeds is not None:
        yield graft({"seeds": overrides.seeds}, "--seeds")
    if overrides.epochs is not None:
        yield graft({"train": {"epochs": overrides.epochs}}, "--epochs")
    if overrides.arithmetic is not None:
        yield graft({"arithmetic": overrides.arithmetic}, "--arithmetic")
    if overrides.probes:
        yield graft({"probes": overrides.probes}, "--probe")


def _refuse_repeated_seeds(root: Node) -> None:
    nodes = root.at(["seeds"]).value
    assert isinstance(nodes, list)
    seen: set[object] = set()
    for node in nodes:
        if node.value in seen:
            raise InputError(f"{node.where}: seed {node.value} stands twice in 'seeds'; keep one")
        seen.add(node.value)
