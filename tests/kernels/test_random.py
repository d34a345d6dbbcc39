"""Random bits and what they round: a published answer, independence of layout and position."""

import pytest
import torch

from qbench.kernels.random import Key, hash_words, philox, random_words
from qbench.kernels.reference.encode import rounded_to_integer

KEY = Key(seed=1, tensor=2, step=3)


def stochastic_round(x: torch.Tensor, key: Key) -> torch.Tensor:
    return rounded_to_integer(x, "stochastic", key.words())


def test_philox_known_answer() -> None:
    """First line of the known-answer file of Random123 (Salmon et al. 2011) for philox4x32, 7 rounds."""
    words = philox(torch.tensor([0]), Key(0, 0, 0))
    assert [int(word) for word in words] == [0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48]


def philox4x32(counter: list[int], key: list[int], rounds: int) -> list[int]:
    """By its definition, in Python's integers (Salmon et al. 2011, section 3.3)."""
    for _ in range(rounds):
        first, second = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        high = (second >> 32) ^ counter[1] ^ key[0], (first >> 32) ^ counter[3] ^ key[1]
        counter = [high[0], second & 0xFFFFFFFF, high[1], first & 0xFFFFFFFF]
        key = [(word + weyl) & 0xFFFFFFFF for word, weyl in zip(key, (0x9E3779B9, 0xBB67AE85), strict=True)]
    return counter


def test_philox_is_what_its_definition_says() -> None:
    """The definition against the other two lines of that file, then every word of key and counter."""
    ones, pi = [0xFFFFFFFF] * 4, [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    assert philox4x32(ones, ones[:2], 7) == [0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662]
    assert philox4x32(pi, [0xA4093822, 0x299F31D0], 7) == [0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A]
    blocks = [0, 1, 2**32 - 1, 2**32, 5 * 2**32 + 7]
    for seed, tensor, step in ((1, 2, 3), (0xFFFFFFFF, 0, 1), (0xA4093822, 0x299F31D0, 0x85A308D3)):
        found = torch.stack(philox(torch.tensor(blocks), Key(seed, tensor, step)), 1).tolist()
        assert found == [philox4x32([b & 0xFFFFFFFF, b >> 32, step, 0], [seed, tensor], 7) for b in blocks]


def test_words_do_not_depend_on_how_many_are_drawn() -> None:
    assert torch.equal(random_words(1000, KEY)[:77], random_words(77, KEY))


@pytest.mark.parametrize("other", [Key(0, 2, 3), Key(1, 0, 3), Key(1, 2, 0)])
def test_every_part_of_the_key_matters(other: Key) -> None:
    assert not torch.equal(random_words(64, KEY), random_words(64, other))


def test_same_bits_in_every_memory_layout() -> None:
    x = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0)) * 10
    expected = stochastic_round(x, KEY)
    assert torch.equal(stochastic_round(x.contiguous(memory_format=torch.channels_last), KEY), expected)
    assert torch.equal(stochastic_round(x.transpose(0, 1).contiguous().transpose(0, 1), KEY), expected)


def test_counting_order_of_four_dimensions_is_nhwc() -> None:
    x = torch.full((2, 3, 4, 5), 0.5)
    flat = stochastic_round(torch.full((x.numel(),), 0.5), KEY)
    assert torch.equal(stochastic_round(x, KEY).permute(0, 2, 3, 1).flatten(), flat)


def test_integers_never_move() -> None:
    x = torch.tensor([0.0, -0.0, 1.0, -1.0, 255.0, 2.0**23, 2.0**24, -(2.0**30)]).repeat(4096)
    assert torch.equal(stochastic_round(x, KEY), x)


def test_mean_of_a_million_draws() -> None:
    """3.3 rounds up with probability 0.3: the standard error of the mean is 0.00046, so 0.003 is 6.5 of them."""
    rounded = stochastic_round(torch.full((1_000_000,), 3.3), KEY)
    assert set(rounded.unique().tolist()) == {3.0, 4.0}
    assert abs(float(rounded.double().mean()) - 3.3) < 0.003


def test_non_finite_passes_through() -> None:
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, 1.5])
    result = stochastic_round(x, KEY)
    assert result[0].isnan()
    assert result[1] == torch.inf
    assert result[2] == -torch.inf
    assert result[3] in (1.0, 2.0)


def test_consecutive_words_are_uncorrelated() -> None:
    """Correlation of 2^16 uniform pairs scatters by 1/256; four of these is the limit."""
    u = random_words(2**16 + 1, KEY).double() / 2**32
    assert abs(float(torch.corrcoef(torch.stack([u[1:], u[:-1]]))[0, 1])) < 4 / 256
    assert abs(float(u.mean()) - 0.5) < 4 * (1 / 12) ** 0.5 / 256


HASH = Key(seed=1, tensor=2, step=3, generator="hash")


def mixed(index: int, key: Key) -> int:
    """The hash in Python integers."""
    mask = 0xFFFFFFFF
    offset = int(philox(torch.tensor([0]), key)[0])
    h = ((index & mask) * 0x9E3779B1 + (index >> 32) * 0x85EBCA6B + offset) & mask
    h = ((h ^ (h >> 16)) * 0x21F0AAAD) & mask
    h = ((h ^ (h >> 15)) * 0x735A2D97) & mask
    return h ^ (h >> 15)


def test_hash_in_python_integers() -> None:
    assert random_words(300, HASH).tolist() == [mixed(i, HASH) for i in range(300)]
    far = torch.tensor([2**31, 2**32 - 1, 2**32, 2**40 + 12345])
    assert hash_words(far, HASH).tolist() == [mixed(int(i), HASH) for i in far]


def test_hash_rounds_without_bias_and_without_correlation() -> None:
    """Standard error of the mean 0.00046; correlation of 2^16 pairs scatters by 1/256."""
    rounded = stochastic_round(torch.full((1_000_000,), 3.3), HASH)
    assert set(rounded.unique().tolist()) == {3.0, 4.0}
    assert abs(float(rounded.double().mean()) - 3.3) < 0.003
    u = random_words(2**16 + 1, HASH).double() / 2**32
    assert abs(float(torch.corrcoef(torch.stack([u[1:], u[:-1]]))[0, 1])) < 4 / 256


@pytest.mark.parametrize("key", [KEY, HASH, Key(-1, 2**40 + 5, 2**32)], ids=str)
def test_words_of_a_key(key: Key) -> None:
    words = key.words()
    assert words[:3] == [number % 2**32 for number in (key.seed, key.tensor, key.step)]
    assert words[3] == {"philox": 0, "hash": 1}[key.generator]
    assert Key.of(words).words() == words
    assert torch.equal(random_words(64, Key.of(words)), random_words(64, key))


@pytest.mark.parametrize("other", [Key(0, 2, 3, "hash"), Key(1, 0, 3, "hash"), Key(1, 2, 0, "hash"), KEY])
def test_every_part_of_a_hash_key_matters(other: Key) -> None:
    assert not torch.equal(random_words(64, HASH), random_words(64, other))
