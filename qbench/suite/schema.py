"""What a suite file may say, as pydantic models; and pydantic's complaints as one sentence with file and line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from qbench.errors import SuiteError
from qbench.recipe import Arithmetic
from qbench.registry import nearest
from qbench.suite.nodes import Key, Node
from qbench.train.settings import MeasureSettings, Settings, TrainSettings

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Protocol = Literal["same", "paper"]
SuiteKind = Literal["train", "theory"]


NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class SuiteFile(Settings):
    """The top level of a suite file. The parts chosen by name are read by :mod:`qbench.suite.choices`,
    :mod:`qbench.suite.entries` and :mod:`qbench.suite.probes`."""

    name: str = Field(pattern=NAME, description="names the results directory too")
    kind: SuiteKind = Field(default="train", description="theory: see TheoryFile")
    description: str = ""
    model: Any = Field(description="a name, {name: ..., option: ...}, or a list of these")
    dataset: Any = Field(description="a name, {name: ..., root: DIR, option: ...}, or a list of these")
    seeds: tuple[Seed, ...] = Field(min_length=1)
    arithmetic: Arithmetic = "integer"
    protocol: Protocol = Field(default="same", description="paper: a method may bring its own training settings")
    train: TrainSettings = TrainSettings()
    measure: MeasureSettings = MeasureSettings()
    methods: list[Any] = Field(min_length=1)
    probes: list[Any] = Field(default=[], description="what is observed while training: names, or {name: options}")
    profiles: dict[str, dict[str, Any]] = Field(default={}, description="named overlays, chosen with --profile")


class TheoryFile(Settings):
    """The top level of a suite file of ``kind: theory``. Options are checked by each experiment."""

    name: str = Field(pattern=NAME, description="names the results directory too")
    kind: Literal["theory"]
    description: str = ""
    seed: Seed = Field(default=0, description="of every experiment's random numbers")
    experiments: dict[str, dict[str, Any] | None] = Field(min_length=1, description="name to options")
    profiles: dict[str, dict[str, Any]] = Field(default={}, description="named overlays, chosen with --profile")


class MethodEntry(Settings):
    """The long form of an entry of ``methods:``."""

    method: str
    options: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default={}, description="what differs from the suite's train section")
    because: str | None = Field(default=None, min_length=1, description="why it differs: the paper and its section")
    label: str | None = Field(default=None, min_length=1, description="name in tables, where two entries share one")


M = TypeVar("M", bound=BaseModel)

_MUST_BE = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "tuple_type": "a list",
    "list_type": "a list",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "string_pattern_mismatch": "made of letters, digits, '.', '_' and '-'",
}


def check(model: type[M], node: Node, prefix: Sequence[Key] = ()) -> M:
    """``node`` as a ``model``, with JSON's types (a list is good for a tuple).

    prefix: where ``node`` stands in the file, for the names in messages. Raises :class:`SuiteError`, one sentence
    about the first complaint.
    """
    try:
        return model.model_validate_json(json.dumps(node.plain()))
    except ValidationError as error:
        raise SuiteError(_sentence(error.errors(include_url=False)[0], model, node, prefix)) from None


def _sentence(complaint: Mapping[str, Any], model: type[BaseModel], node: Node, prefix: Sequence[Key]) -> str:
    path: tuple[Key, ...] = complaint["loc"]
    where = node.at(path).where
    name = dotted((*prefix, *path))
    kind: str = complaint["type"]
    if kind == "extra_forbidden":
        parent = dotted((*prefix, *path[:-1]))
        inside = f" in '{parent}'" if parent else ""
        return f"{where}: unknown key '{path[-1]}'{inside}{nearest(str(path[-1]), _keys(model, path[:-1]))}"
    if kind == "missing":
        return f"{where}: '{name}' is missing"
    if kind in {"too_short", "string_too_short"}:
        return f"{where}: '{name}' must not be empty"
    subject = f"'{name}'" if name else "a suite"
    if kind == "value_error":
        return f"{where}: {subject}: {complaint['ctx']['error']}"
    return f"{where}: {subject} {_expected(kind, complaint)}, not {_shown(complaint['input'])}"


def _expected(kind: str, complaint: Mapping[str, Any]) -> str:
    if kind == "literal_error":
        allowed = str(complaint["ctx"]["expected"])
        close = get_close_matches(str(complaint["input"]), re.findall(r"'([^']*)'", allowed), 1)
        return f"must be {allowed}" + (f" (did you mean '{close[0]}'?)" if close else "")
    if kind in _MUST_BE:
        return f"must be {_MUST_BE[kind].format(**complaint.get('ctx', {}))}"
    return str(complaint["msg"]).lower()


def dotted(path: Sequence[Key]) -> str:
    """A path as people write it: ``train.optimizer.lr``, ``methods[2].options``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys(model: type[BaseModel], path: Sequence[Key]) -> list[str]:
    for key in path:
        annotation = model.model_fields[str(key)].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        model = annotation
    return list(model.model_fields)
