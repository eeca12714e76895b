"""Ids sort by time and never repeat."""

import re
import uuid
from concurrent.futures import ThreadPoolExecutor

from service_kit import ids
from service_kit.ids import new_id


def test_an_id_is_its_prefix_and_a_uuid_of_version_7() -> None:
    made = new_id("ord_")
    assert re.fullmatch(r"ord_[0-9a-f]{32}", made)
    parsed = uuid.UUID(made.removeprefix("ord_"))
    assert parsed.variant == uuid.RFC_4122
    assert parsed.int >> 76 & 0xF == 7


def test_an_id_begins_with_the_millisecond_of_its_making() -> None:
    """The moment of the example in RFC 9562, appendix A.6."""
    sequence = ids._Sequence(lambda: 0x017F22E279B0 * 1_000_000)
    assert f"{sequence.next():032x}".startswith("017f22e279b07")


def test_ids_ascend_within_a_millisecond_and_when_the_clock_goes_back() -> None:
    moments = iter([5_000_000_000] * 500 + [1_000_000_000] * 500)
    sequence = ids._Sequence(lambda: next(moments))
    made = [sequence.next() for _ in range(1000)]
    assert made == sorted(set(made))


def test_a_used_up_counter_borrows_from_the_next_millisecond() -> None:
    sequence = ids._Sequence(lambda: 7_000_000)
    first = sequence.next()
    sequence._counter = ids._COUNTER_MAX
    second = sequence.next()
    assert first >> 80 == 7
    assert second >> 80 == 8


def test_threads_never_make_the_same_id() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_id("pay_"), range(4000)))
    assert len(set(made)) == len(made)
