"""The one-line form of a method and its options."""

from __future__ import annotations

import pytest

from qbench.errors import InputError
from qbench.suite import parse_selection

GOOD = [
    ("fp32", "fp32", {}),
    (" fp32 ", "fp32", {}),
    ("graham[bits=4]", "graham", {"bits": [4]}),
    ("graham[bits=4,6,8]", "graham", {"bits": [4, 6, 8]}),
    ("b[bits=4,6,rounding=nearest,stochastic,x=1]", "b",
     {"bits": [4, 6], "rounding": ["nearest", "stochastic"], "x": [1]}),
    ("./a b/mine.py:f[lr=1e-3, on=true, off=false, none=null]", "./a b/mine.py:f",
     {"lr": [0.001], "on": [True], "off": [False], "none": [None]}),
    ("f[levels=[0,1],[2,3]]", "f", {"levels": [[0, 1], [2, 3]]}),
    ("f[text='a,b]',other=\"c=d\"]", "f", {"text": ["a,b]"], "other": ["c=d"]}),
    ("f[m={a: 1, b: 2}]", "f", {"m": [{"a": 1, "b": 2}]}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reference", "options"), GOOD)
def test_selections(text, reference, options):
    selection = parse_selection(text, "-m")
    assert selection.reference == reference
    assert {name: [node.plain() for node in nodes] for name, nodes in selection.options.items()} == options


BAD = [
    ("", r"-m: '' is no selection of a method; write NAME or .*"),
    ("[bits=3]", r"-m: '\[bits=3\]' is no selection of a method; .*"),
    ("graham[bits=3", r"-m: 'graham\[bits=3' is no selection of a method; .*"),
    ("graham[bits=3]x", r"-m: .* is no selection of a method; .*"),
    ("graham[4]", r"-m: '4' in 'graham\[4\]' has no option it belongs to; .*"),
    ("graham[]", r"-m: the brackets of 'graham\[\]' hold no option; write NAME or .*"),
    ("graham[ ]", r"-m: the brackets of 'graham\[ \]' hold no option; write NAME or .*"),
    ("graham[bits=]", r"-m: option 'bits' in 'graham\[bits=\]' has an empty value; .*"),
    ("graham[bits=3,]", r"-m: option 'bits' in 'graham\[bits=3,\]' has an empty value; .*"),
    ("graham[bits=3,bits=4]", r"-m: option 'bits' stands twice in .*; write bits=value,value"),
    ("f[x=[1,2]", r"-m: a bracket or quote in 'f\[x=\[1,2\]' is not closed; .*"),
    ("f[x='a]", r"-m: a bracket or quote in 'f\[x='a\]' is not closed; .*"),
    ("f[x=!!python/name:os.system]", r"-m:1: tags are not allowed here.*"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_broken_selection_is_told(text, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        parse_selection(text, "-m")
