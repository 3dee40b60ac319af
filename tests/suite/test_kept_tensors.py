"""Which tensors of a suite are made, kept, and made ahead of their turn."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_tapml.suite._made_tensors import MadeTensors


class Maker:
    """Makes arrays of given sizes and counts them."""

    def __init__(self, tensors, sizes):
        self.tensors = tensors
        self.sizes = sizes
        self.made = []

    def _make(self, digest):
        self.made.append(digest)
        return np.full(self.sizes[digest], ord(digest), np.uint8)

    def take(self, digest):
        array = self.tensors.take(digest, self.sizes[digest], lambda: self._make(digest))
        assert array.tolist() == [ord(digest)] * self.sizes[digest]

    def make_ahead(self, digest):
        self.tensors.make_ahead(digest, self.sizes[digest], lambda: self._make(digest))

    @property
    def kept_bytes(self):
        return sum(array.nbytes for array in self.tensors._kept.values())


def maker(sizes, most=100, unexpected=30):
    return Maker(MadeTensors(most, unexpected), sizes)


def test_what_is_not_expected_goes_first_the_oldest_first():
    """Within a limit of its own; nothing expected makes room for it."""
    made = maker(dict.fromkeys("abcxy", 10))
    made.tensors.expect("xy")
    for digest in "xyabcabxy":
        made.take(digest)
    assert "".join(made.made) == "xyabc"
    made.sizes["d"] = 20
    made.take("d")
    for digest in "bdxyca":
        made.take(digest)
    assert "".join(made.made) == "xyabcd" + "ca"


def test_what_is_taken_last_makes_room_for_what_is_taken_now():
    """After what is not taken again."""
    made = maker(dict.fromkeys("abc", 40))
    for digest in "abc":
        made.take(digest)
        made.tensors.expect("abcb"["abc".index(digest) :])
    assert sorted(made.tensors._kept) == ["b", "c"]
    made.tensors.expect("abc")
    made.take("a")
    assert sorted(made.tensors._kept) == ["a", "b"]


def test_a_tensor_larger_than_all_limits_is_taken_alone():
    """It is not made ahead."""
    made = maker({"a": 10, "b": 500})
    made.tensors.expect("ab")
    made.take("a")
    made.make_ahead("b")
    assert made.made == ["a"]
    made.take("b")
    assert list(made.tensors._kept) == ["b"]


@pytest.mark.parametrize("change", ["forget", "expect"])
def test_ahead_waits_until_there_is_room(change):
    """What is expected before it stays."""
    made = maker({"a": 60, "b": 60})
    made.tensors.expect("ab")
    made.take("a")
    thread = Thread(target=made.make_ahead, args=["b"], daemon=True)
    thread.start()
    time.sleep(0.05)
    assert made.made == ["a"]
    made.tensors.expect("b")
    if change == "forget":
        made.tensors.forget()
    thread.join(5)
    assert made.made == ["a", "b"]
    assert list(made.tensors._kept) == ["b"]


def test_what_is_not_expected_any_more_is_not_made():
    """Its thread goes on."""
    made = maker({"a": 60, "b": 60})
    made.tensors.expect("ab")
    made.take("a")
    thread = Thread(target=made.make_ahead, args=["b"], daemon=True)
    thread.start()
    made.tensors.expect(())
    thread.join(5)
    assert not thread.is_alive()
    assert made.made == ["a"]


def test_a_tensor_is_made_once_for_all_threads():
    """Others wait for it."""
    tensors = MadeTensors()
    begun, made = Event(), []

    def make():
        begun.set()
        time.sleep(0.05)
        made.append(1)
        return np.zeros(3)

    tensors.expect("a")
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(tensors.make_ahead, "a", 24, make)
        begun.wait()
        others = [pool.submit(tensors.take, "a", 24, make) for _ in range(3)]
        first.result()
        assert len({id(other.result()) for other in others}) == 1
    assert made == [1]


def test_what_cannot_be_made_is_tried_again():
    """By each that takes it, and raised there."""
    tensors = MadeTensors()
    tensors.expect("a")
    for act in (tensors.make_ahead, tensors.take, tensors.take):
        with pytest.raises(ZeroDivisionError):
            act("a", 8, lambda: 1 // 0)
    assert tensors.take("a", 8, lambda: np.ones(1)).tolist() == [1]


@given(
    sizes=st.lists(st.integers(0, 120), min_size=4, max_size=4),
    acts=st.lists(
        st.tuples(
            st.sampled_from(["take", "ahead", "expect", "forget"]),
            st.text("abcd", min_size=1, max_size=6),
        ),
        max_size=30,
    ),
)
def test_limits_hold_whatever_is_done(sizes, acts):
    """Of all that is kept, and of what is not expected; but for one tensor that is larger."""
    made = maker(dict(zip("abcd", sizes, strict=True)))
    expected = ""
    for act, digests in acts:
        if act == "take":
            made.take(digests[0])
        elif act == "expect":
            expected = digests
            made.tensors.expect(digests)
        elif act == "forget":
            made.tensors.forget()
            assert set(made.tensors._kept) <= set(expected)
        elif all(one == digests[0] for one in made.tensors._kept):
            made.make_ahead(digests[0])  # There is room: it does not wait.
        kept = made.tensors._kept
        others = sum(array.nbytes for digest, array in kept.items() if digest not in expected)
        assert made.kept_bytes <= 100 + 30 + max(sizes)
        assert others <= 30 + max(sizes)


def test_what_nobody_expects_any_more_once_it_is_made_is_not_kept():
    """However large it is."""
    tensors = MadeTensors(1000, 100)
    tensors.expect(["a"])

    def make():
        tensors.expect(())
        return np.zeros(900, np.uint8)

    tensors.make_ahead("a", 900, make)
    made = []
    tensors.take("a", 900, lambda: made.append(1) or np.zeros(900, np.uint8))
    assert made
