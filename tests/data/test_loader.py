"""Order and augmentation are functions of (seed, epoch, batch), and of nothing else."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch

from qbench.data import Batch, BatchLoader, num_batches
from qbench.data.loader import augmentation_key, item_order
from qbench.errors import DataError


class Numbers:
    """Items whose image is their number; augmentation adds a draw."""

    def __init__(self, count: int, *, decodes: bool = False, broken: int | None = None) -> None:
        self.decodes = decodes
        self.threads: set[str] = set()
        self._count, self._broken = count, broken

    def __len__(self) -> int:
        return self._count

    def batch(self, indices: np.ndarray, augment: np.random.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        self.threads.add(threading.current_thread().name)
        if self._broken in indices:
            raise DataError(f"item {self._broken} is broken")
        noise = np.zeros(len(indices)) if augment is None else augment.random(len(indices))
        images = torch.from_numpy((indices + noise).astype(np.float32))[:, None, None, None]
        return images, torch.from_numpy(indices % 10)

    def content_sha(self) -> str:
        return "0" * 16


def epoch(split: Numbers, **changes: object) -> list[Batch]:
    arguments: dict[str, object] = {"batch_size": 8, "seed": 3, "epoch": 2, "shuffle": True, "augment": True}
    return list(BatchLoader.iterate(split, **(arguments | changes)))  # type: ignore[arg-type]


def same(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a.images, b.images)
        and torch.equal(a.labels, b.labels)
        and np.array_equal(a.indices, b.indices)
        and a.draw_sha == b.draw_sha
        for a, b in zip(one, two, strict=True)
    )


def test_equal_seed_and_epoch_give_equal_batches() -> None:
    assert same(epoch(Numbers(50)), epoch(Numbers(50)))


@pytest.mark.parametrize("changes", [{"seed": 4}, {"epoch": 3}, {"seed": 2, "epoch": 3}])
def test_another_seed_or_epoch_gives_another_order_and_other_draws(changes: dict[str, object]) -> None:
    one, two = epoch(Numbers(50)), epoch(Numbers(50), **changes)
    assert not np.array_equal(one[0].indices, two[0].indices)
    fixed = {"shuffle": False}
    assert not torch.equal(epoch(Numbers(50), **fixed)[0].images, epoch(Numbers(50), **fixed, **changes)[0].images)


def test_an_epoch_visits_every_item_once() -> None:
    batches = epoch(Numbers(50))
    assert [len(batch.indices) for batch in batches] == [8] * 6 + [2]
    assert sorted(np.concatenate([batch.indices for batch in batches]).tolist()) == list(range(50))


def test_images_and_labels_are_those_of_the_indices() -> None:
    for batch in epoch(Numbers(50), augment=False):
        assert batch.images.flatten().tolist() == batch.indices.tolist()
        assert batch.labels.tolist() == (batch.indices % 10).tolist()


def test_without_shuffling_items_come_in_order() -> None:
    batches = epoch(Numbers(20), shuffle=False)
    assert np.concatenate([batch.indices for batch in batches]).tolist() == list(range(20))


def test_a_batchs_augmentation_does_not_depend_on_the_batches_before_it() -> None:
    whole = epoch(Numbers(50))
    bits = np.random.Philox(key=augmentation_key(3, 2, 4))
    images, _ = Numbers(50).batch(whole[4].indices, np.random.Generator(bits))
    assert torch.equal(whole[4].images, images)


def test_cutting_an_epoch_short_changes_nothing_else() -> None:
    assert same(epoch(Numbers(50), max_batches=3), epoch(Numbers(50))[:3])
    assert same(epoch(Numbers(50), max_batches=99), epoch(Numbers(50)))
    assert same(epoch(Numbers(50), drop_last=True), epoch(Numbers(50))[:6])


def test_prefetching_changes_nothing_but_the_thread() -> None:
    here, ahead = Numbers(50), Numbers(50, decodes=True)
    assert same(epoch(here), epoch(ahead))
    assert here.threads == {threading.current_thread().name}
    assert ahead.threads == {"qbench-prefetch_0"}


def test_an_error_while_prefetching_arrives_after_the_batches_before_it() -> None:
    batches = BatchLoader.iterate(Numbers(50, decodes=True, broken=17), batch_size=8)
    assert [next(batches).indices[0] for _ in range(2)] == [0, 8]
    with pytest.raises(DataError, match="item 17 is broken"):
        next(batches)


def test_leaving_early_ends_the_thread() -> None:
    batches = BatchLoader.iterate(Numbers(50, decodes=True), batch_size=8)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("qbench-prefetch")]


def test_draw_sha_tells_order_and_augmentation_apart() -> None:
    variants: list[Callable[[], list[Batch]]] = [
        lambda: epoch(Numbers(50)),
        lambda: epoch(Numbers(50), augment=False),
        lambda: epoch(Numbers(50), shuffle=False),
        lambda: epoch(Numbers(50), seed=4, shuffle=False),
        lambda: epoch(Numbers(50), seed=4, shuffle=False, augment=False),
    ]
    shas = [variant()[0].draw_sha for variant in variants]
    assert len(set(shas)) == len(variants)
    assert all(len(sha) == 32 for sha in shas)


def test_pinned_order() -> None:
    assert item_order(10, seed=0, epoch=0, shuffle=True).tolist() == [0, 7, 8, 6, 9, 5, 1, 3, 2, 4]
    assert epoch(Numbers(10), seed=0, epoch=0)[0].draw_sha.hex()[:16] == "5d067589d379437e"


def test_no_augmentation_shares_its_key_with_an_order() -> None:
    keys = {tuple(augmentation_key(5, e, b).tolist()) for e in range(40) for b in range(40)}
    assert len(keys) == 1600
    assert not keys & {(5, 2 * e) for e in range(4000)}


@pytest.mark.parametrize(
    ("items", "size", "drop_last", "limit", "expected"),
    [
        (50, 8, False, None, 7),
        (50, 8, True, None, 6),
        (48, 8, True, None, 6),
        (50, 8, True, 4, 4),
        (3, 8, False, None, 1),
    ],
)
def test_num_batches(items: int, size: int, drop_last: bool, limit: int | None, expected: int) -> None:
    assert num_batches(items, size, drop_last=drop_last, max_batches=limit) == expected
    assert len(epoch(Numbers(items), batch_size=size, drop_last=drop_last, max_batches=limit)) == expected


def test_an_epoch_without_any_batch_is_refused_at_once() -> None:
    with pytest.raises(DataError, match="a batch of 8 is larger than the split, which has 5 items; set batch_size to"):
        BatchLoader.iterate(Numbers(5), batch_size=8, drop_last=True)


def test_large_seeds_and_epochs() -> None:
    assert len(item_order(5, seed=2**63, epoch=2**31, shuffle=True)) == 5
    assert augmentation_key(2**63, 2**31 - 1, 2**20)[0] == 2**63


def test_orders_and_augmentations_never_share_a_key() -> None:
    """An order is drawn from a generator of its own: no augmentation's, of whatever epoch and batch, gives it."""
    draws = [np.random.Philox(key=augmentation_key(3, e, b)) for e in range(3) for b in range(6)]
    permutations = {tuple(np.random.Generator(bits).permutation(50)) for bits in draws}
    orders = {tuple(item_order(50, seed=3, epoch=e, shuffle=True)) for e in range(12)}
    assert len(orders) == 12
    assert not orders & permutations
