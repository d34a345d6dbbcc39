"""The public functions: what they make of their arguments, and that they reach the kernels."""

from __future__ import annotations

import inspect
import re
from collections.abc import Container
from functools import cache
from typing import Any

import pytest
import torch
from kernel_cases import CASES
from kernel_cases_long import LIMITS, one_by_one
from kernel_cases_products import KINDS, LONG, Fill, convolution
from kernel_matrix import PUBLIC_MODULES, Case, integers, normal, number
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from qbench.kernels import direct, encoding, line_gradient, pooling, products, updates
from qbench.kernels.library import ENTRIES, SCHEMAS, ops
from qbench.kernels.random import Key
from qbench.kernels.reference import encode as reference_encode
from qbench.kernels.reference import products as reference_products

U8, S8, S16 = torch.uint8, torch.int8, torch.int16
KEY = Key(1, 2, 3)


def named(case: Case) -> dict[str, Any]:
    """Its arguments by the operator's names for them."""
    names = (argument.name for argument in getattr(torch.ops.qbench, case.op).default._schema.arguments)
    return dict(zip(names, case.arguments(), strict=True))


@cache
def fullest_case(op: str, counted: Container[str] | None = None) -> Case:
    """The one that gives the most tensors with elements and sets the most options, of those that are ``counted``."""

    def given(case: Case) -> int:
        values = [value for name, value in named(case).items() if counted is None or name in counted]
        return sum(value.numel() > 0 if isinstance(value, torch.Tensor) else bool(value) for value in values)

    return max((case for case in CASES if case.op == op and not case.is_long), key=given)


@pytest.mark.parametrize("op", SCHEMAS)
def test_schema_and_traced_shapes_are_true(op: str) -> None:
    """PyTorch's own checker: nothing is changed but what the schema says, and the shapes told to tracing are right."""
    torch.library.opcheck(
        getattr(torch.ops.qbench, op).default,
        fullest_case(op).arguments(),
        test_utils=("test_schema", "test_faketensor"),
    )


@pytest.mark.parametrize("op", SCHEMAS)
def test_operands_on_different_devices_are_refused(op: str) -> None:
    """A kernel would read from an address that is none of its own."""
    arguments = fullest_case(op).arguments()
    for place, argument in enumerate(arguments):
        if place and isinstance(argument, torch.Tensor):
            apart = [*arguments[:place], argument.to("meta"), *arguments[place + 1 :]]
            with pytest.raises(ValueError, match=r"^\w+ is on meta but \w+ on cpu$"):
                ENTRIES[op, "cpu"](*apart)


@pytest.mark.parametrize("op", SCHEMAS)
def test_tensors_without_values_give_shapes(op: str) -> None:
    arguments = fullest_case(op).arguments()
    with torch.no_grad():
        expected = getattr(ops, op)(*arguments)
        result = getattr(ops, op)(*(a.to("meta") if isinstance(a, torch.Tensor) else a for a in arguments))
    pairs = zip(*(x if isinstance(x, tuple) else (x,) for x in (expected, result)), strict=True)
    assert all(a is b is None or (a.shape == b.shape and b.is_meta) for a, b in pairs)


@pytest.mark.parametrize("terms", [LONG - 1, LONG])
def test_sums_are_int32_as_long_as_every_sum_fits(terms: int) -> None:
    a, b = integers((2, terms), U8, 255), integers((terms, 3), U8, 255)
    result = products.matmul_s8(a, b)
    assert result.dtype == (torch.int32 if terms < LONG else torch.int64)
    assert set(result.flatten().tolist()) == {terms * 255**2}


@pytest.mark.parametrize(
    ("a", "a_zero", "b", "b_zero", "longest"),
    [
        (U8, None, S8, None, 65_793), (S8, None, S8, None, 131_071), (U8, 0.0, S8, 1.0, 33_025),
        (S16, 1.0, S16, None, 1), (S16, 1.0, S16, 1.0, 0), (S16, None, U8, None, 257),
    ],
)  # fmt: skip
def test_bound_of_every_pair_of_types(
    a: torch.dtype, a_zero: float | None, b: torch.dtype, b_zero: float | None, longest: int
) -> None:
    zeros = [None if zero is None else number(zero) for zero in (a_zero, b_zero)]
    for terms, expected in ((longest, torch.int32), (longest + 1, torch.int64)):
        left, right = torch.zeros((1, terms), dtype=a), torch.zeros((terms, 1), dtype=b)
        assert products.matmul_s8(left, right, a_zero=zeros[0], b_zero=zeros[1]).dtype == expected


def test_bound_of_a_convolution_counts_its_own_reduction() -> None:
    x, w = integers((1, 4, 3, 3), S16), integers((2, 2, 1, 1), S8)
    assert products.conv2d_s8(x, w, groups=2).dtype == torch.int32
    e = integers((1, 2, 3, 3), S16)
    assert products.conv2d_s8_input_grad(e, w, [1, 4, 3, 3], groups=2).dtype == torch.int32
    assert products.conv2d_s8_weight_grad(x, e, [2, 2, 1, 1], groups=2).dtype == torch.int64


@pytest.mark.parametrize("beyond", [0, 1])
@pytest.mark.parametrize(("fill", "limit"), LIMITS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_convolutions_leave_int32_where_their_sums_do(kind: str, fill: Fill, limit: int, beyond: int) -> None:
    first, _, second, _, *shape = convolution(kind, one_by_one(kind, limit + beyond), fill)
    result = getattr(products, kind.replace("conv2d", "conv2d_s8"))(first, second, *shape[:-5])
    assert result.dtype == (torch.int64 if beyond else torch.int32)
    assert set(result.flatten().tolist()) == {(limit + beyond) * int(first[0, 0, 0, 0]) * int(second[0, 0, 0, 0])}


def test_numbers_and_pairs_mean_the_same() -> None:
    x, w = integers((2, 4, 9, 8), U8), integers((6, 2, 3, 3), S8)
    one = products.conv2d_s8(x, w, stride=2, padding=1, dilation=2, groups=2)
    pairs = products.conv2d_s8(x, w, stride=(2, 2), padding=[1, 1], dilation=torch.Size([2, 2]), groups=2)
    expected = reference_products.conv2d(x, None, w, None, [2, 2], [1, 1], [2, 2], 2, False)
    assert torch.equal(one, expected) and torch.equal(pairs, expected)


def test_strides_beyond_the_input_meet_one_output() -> None:
    x, w, e = integers((2, 5, 6, 7), U8), integers((4, 5, 3, 3), S8), integers((2, 4, 1, 1), S16)
    for far, near in ((2**30, 5), ((2**30, 9), (6, 9))):
        assert torch.equal(products.conv2d_s8(x, w, stride=far), products.conv2d_s8(x[..., :3, :3], w))
        for name, arguments in (("input_grad", (e, w, x.shape)), ("weight_grad", (x, e, w.shape))):
            gradient = getattr(products, f"conv2d_s8_{name}")
            assert torch.equal(gradient(*arguments, stride=far), gradient(*arguments, stride=near))
        line = (number(1.0), normal((4,)), normal((4,)).double(), normal((4,)), torch.arange(8))
        of_line = (line_gradient.conv2d_s8_weight_grad_line(x, e.to(U8), w.shape, *line, stride=s) for s in (far, near))
        assert torch.equal(*of_line)


def test_layout_does_not_matter() -> None:
    x, w = integers((2, 5, 6, 7), U8), integers((4, 5, 3, 3), S8)
    e = integers((2, 4, 4, 5), S8)
    odd = [torch.cat([t, t], dim=3)[..., : t.shape[3]].contiguous()[:, :, :, :] for t in (x, w, e)]
    strided = [torch.stack([t, t], dim=-1)[..., 0] for t in (x, w, e)]
    for x_, w_, e_ in (odd, strided):
        assert torch.equal(products.conv2d_s8(x_, w_), products.conv2d_s8(x, w))
        assert torch.equal(products.conv2d_s8_input_grad(e_, w_, x.shape), products.conv2d_s8_input_grad(e, w, x.shape))
        assert torch.equal(
            products.conv2d_s8_weight_grad(x_, e_, w.shape), products.conv2d_s8_weight_grad(x, e, w.shape)
        )


def test_strided_matrices_and_vectors() -> None:
    a, b = integers((6, 10), U8), integers((10, 8), S8)
    expected = a[::2, ::3].long() @ b[::3, ::2][:4].long()
    assert torch.equal(products.matmul_s8(a[::2, ::3], b[::3, ::2][:4]).long(), expected)
    scale, bias = normal((16,)).abs()[::2], normal((1,)).expand(8)
    found = products.matmul_s8_scaled(a, b, number(0.5), scale, bias=bias)
    assert torch.equal(found, (a.long() @ b.long()).float() * 0.5 * scale + bias)


def test_linear_layers_are_matrix_products() -> None:
    x, w, e = integers((7, 12), U8), integers((5, 12), S8), integers((7, 5), S16)
    z, v = number(9.0), number(-3.0)
    centred = x.long() - 9
    assert torch.equal(products.linear_s8(x, w, x_zero=z).long(), centred @ w.long().t())
    assert torch.equal(products.linear_s8_input_grad(e, w, e_zero=v).long(), (e.long() + 3) @ w.long())
    assert torch.equal(products.linear_s8_weight_grad(x, e, x_zero=z, e_zero=v).long(), (e.long() + 3).t() @ centred)


def test_scaled_linear_layers_round_in_the_order_of_their_scales() -> None:
    x, w, e = integers((70, 120), U8), integers((50, 120), S8), integers((70, 50), S16)
    s, t, per_row, bias = number(0.37), number(1.3e-3), normal((50,), seed=1).abs(), normal((50,), seed=2)
    found = products.linear_s8_scaled(x, w, s, per_row, bias=bias)
    assert torch.equal(found, (x.long() @ w.long().t()).float() * s * per_row + bias)
    assert torch.equal(products.linear_s8_input_grad_scaled(e, w, t, s), (e.long() @ w.long()).float() * t * s)
    expected = (e.long().t() @ x.long()).float()
    assert torch.equal(products.linear_s8_weight_grad_scaled(x, e, s, t), expected * s * t)
    assert not torch.equal(expected * s * t, expected * t * s)  # so the order is seen


def test_encoders_take_keys_and_their_words() -> None:
    x = normal((999,))
    expected = encoding.encode_affine(x, number(-1.0), number(1.0), 8, True, KEY)
    assert all(map(torch.equal, expected, encoding.encode_affine(x, number(-1.0), number(1.0), 8, True, KEY.words())))
    assert not torch.equal(expected[0], encoding.encode_affine(x, number(-1.0), number(1.0), 8, True, None)[0])
    hashed = encoding.encode_affine(x, number(-1.0), number(1.0), 8, True, Key(1, 2, 3, "hash"))
    assert not torch.equal(expected[0], hashed[0])


def test_codes_do_not_depend_on_the_layout_of_the_input() -> None:
    x = normal((3, 5, 6, 7))
    expected, scale = encoding.encode_scaled(
        x, number(2.0), "linear", 127.0, -127.0, 127.0, "stochastic", KEY, torch.int8
    )
    for view in (x.contiguous(), torch.stack([x, x], dim=-1)[..., 0], x.transpose(1, 2).contiguous().transpose(1, 2)):
        codes, _ = encoding.encode_scaled(
            view, number(2.0), "linear", 127.0, -127.0, 127.0, "stochastic", KEY, torch.int8
        )
        assert torch.equal(codes, expected) and codes.is_contiguous(memory_format=torch.channels_last)
    assert scale.shape == ()


def test_per_channel_ranges_and_scales() -> None:
    w = normal((4, 3, 3, 3))
    low, high = w.amin((1, 2, 3), keepdim=True), w.amax((1, 2, 3), keepdim=True)
    codes, scale, zero = encoding.encode_affine(w, low, high, 8, True, None)
    expected = reference_encode.encode_affine(w, low, high, 8, True, None)
    assert all(map(torch.equal, (codes, scale, zero), expected))
    error = (encoding.decode(codes, scale, zero) - w).abs().max()
    assert error <= 1.51 * scale.max()  # half a step of the zero point, one that clips the highest value


def test_updates_change_their_arguments_in_either_layout() -> None:
    for layout in (torch.channels_last, torch.contiguous_format):
        codes = integers((4, 3, 3, 3), S8).contiguous(memory_format=layout)
        grad, buffer = normal(codes.shape), torch.zeros(codes.shape).contiguous(memory_format=layout)
        before = codes.clone()
        updates.sgd_on_grid_(codes, grad, buffer, 0.1, 0.0, 0.9, False, True, 2.0**-7, -128, 127, "nearest")
        assert torch.equal(buffer, grad)
        moved = (before.float() * 2.0**-7 - 0.1 * grad) / 2.0**-7
        assert torch.equal(codes, moved.round().clamp(-128, 127).to(S8))


@pytest.mark.parametrize("place", [0, 1])
def test_tensors_without_memory_of_their_own_never_reach_a_kernel(place: int) -> None:
    """Whichever argument they are: a kernel would read from address 0."""
    operands = [integers((3, 4), U8), integers((4, 5), S8)]
    operands[place] = FakeTensorMode().from_tensor(operands[place])
    with torch.no_grad(), pytest.raises(AssertionError, match="convert all Tensors to FakeTensors first"):
        products.matmul_s8(*operands)


def test_passes_on_direct_grids_take_any_layout() -> None:
    x, g = normal((3, 5, 6, 7)), normal((3, 5, 6, 7), seed=1)
    vectors = [normal((5,), seed=seed) for seed in range(2, 9)]
    for view in (x.contiguous(), torch.stack([x, x], dim=-1)[..., 0]):
        expected, found = (
            (
                *direct.direct_view(tensor, *vectors[:2], 128.0, 127.0, *vectors[2:4], True, other),
                *direct.direct_gradient(
                    other, None, tensor, *vectors[:2], 128.0, 127.0, *vectors[2:4], True, *vectors[4:]
                ),
            )
            for tensor, other in ((x, g), (view, g.contiguous()))
        )
        assert all(map(torch.equal, expected, found))
        assert found[0].is_contiguous(memory_format=torch.channels_last)


def test_pool_takes_its_kernel_as_stride() -> None:
    x = normal((2, 3, 8, 8))
    y, window = pooling.max_pool2d(x, 2)
    assert torch.equal(y, torch.nn.functional.max_pool2d(x, 2))
    assert torch.equal(
        pooling.max_pool2d_backward(y, window, x.shape, 2).sum(),
        pooling.max_pool2d_backward(y, window, x.shape, (2, 2), 2).sum(),
    )


WRAPPERS = {
    op: getattr(module, name)
    for op in SCHEMAS
    for name in [re.sub("(conv2d|matmul)", r"\1_s8", op)]
    for module in PUBLIC_MODULES
    if hasattr(module, name)
}
"""The public function of every operator that has one."""

OF_ANY_SHAPE = {
    "extremes": {"x"}, "encode_affine": {"x"}, "encode_scaled": {"x"}, "encode_flag": {"x"}, "encode_binary": {"x"},
    "encode_levels": {"x"}, "encode_ranged": {"x"}, "look_up": {"codes"}, "decode": {"codes", "scale", "zero"},
    "pack_bits": {"codes"}, "apply_mask": {"g"}, "round_scaled": {"x"}, "encode_channels": {"x"}, "poison_": {"x"},
}  # fmt: skip


def fullest_arguments(op: str) -> dict[str, Any]:
    """Arguments of the operator's wrapper by name."""
    names = frozenset(inspect.signature(WRAPPERS[op]).parameters)
    return {name: value for name, value in named(fullest_case(op, names)).items() if name in names}


@pytest.mark.parametrize("op", WRAPPERS)
def test_tensors_of_another_type_or_shape_are_refused(op: str) -> None:
    """Each of a wrapper's tensors: a kernel would read memory as what it is not, or beyond its end."""
    arguments, taken = fullest_arguments(op), set()
    for name, value in arguments.items():
        if not isinstance(value, torch.Tensor):
            continue
        with pytest.raises(TypeError, match=f"^{name} .*must be "):
            WRAPPERS[op](**{**arguments, name: value.to(torch.complex64)})
        try:
            WRAPPERS[op](**{**arguments, name: value.expand(1, 1, 1, *value.shape)})
            taken.add(name)
        except ValueError:
            continue
    assert taken == OF_ANY_SHAPE.get(op, set())


def written_by(op: str) -> set[str]:
    """The arguments that it changes."""
    return {argument.name for argument in getattr(torch.ops.qbench, op).default._schema.arguments if argument.is_write}


@pytest.mark.parametrize("op", WRAPPERS)
def test_what_is_changed_in_place_counts_as_changed(op: str) -> None:
    """So that autograd refuses a graph of the old values."""
    arguments = fullest_arguments(op)
    tensors = {name: value for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    before = {name: value._version for name, value in tensors.items()}
    WRAPPERS[op](**arguments)
    assert {name for name, value in tensors.items() if value._version != before[name]} == written_by(op)
    assert all(value._version <= before[name] + 1 for name, value in tensors.items())


@pytest.mark.parametrize("op", [op for op in WRAPPERS if written_by(op)])
def test_what_is_changed_in_place_must_be_dense(op: str) -> None:
    arguments = fullest_arguments(op)
    for name in written_by(op):
        if not arguments[name].dim():
            continue  # one number
        strided = torch.stack([arguments[name], arguments[name]], dim=-1)[..., 0]
        with pytest.raises(ValueError, match=f"^{name} .*must (be dense|have one memory layout)"):
            WRAPPERS[op](**{**arguments, name: strided})


def test_every_operator_but_parts_of_blocks_has_a_wrapper() -> None:
    assert SCHEMAS.keys() - WRAPPERS.keys() == {"range_line", "range_gradient_line"}


@pytest.mark.parametrize("op", ["conv2d_scaled", "encode_affine", "affine_view"])
def test_traces_without_a_break(op: str) -> None:
    """Whole graphs with an operator in them compile; the eager backend runs them as they were traced."""
    function = torch.compile(getattr(torch.ops.qbench, op).default, backend="aot_eager", fullgraph=True)
    case = fullest_case(op)
    expected = getattr(torch.ops.qbench, op).default(*case.arguments())
    assert all(map(torch.equal, function(*case.arguments()), expected))


class Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The names of the operators called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_whoever_watches_operators_sees_the_kernels() -> None:
    """They are called without PyTorch's dispatcher, but only while nobody listens there."""
    x = torch.randn(2, 3)
    with torch.no_grad():
        alone = encoding.extremes(x)
        with Seen() as seen:
            watched = encoding.extremes(x)
        with torch.profiler.profile() as profile:
            encoding.extremes(x)
        with FakeTensorMode() as fakes:
            assert encoding.extremes(fakes.from_tensor(x)).shape == (2,)
    assert torch.equal(alone, watched) and seen.names == ["qbench.extremes.default"]
    assert "qbench::extremes" in {event.key for event in profile.key_averages()}
