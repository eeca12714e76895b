"""The seals of the audit trail: what they cover, and that they stay the same for good."""

import hashlib
import hmac
import io
import json
from datetime import UTC, datetime, timedelta, timezone
from itertools import combinations
from typing import Any, Final

import pytest

from service_kit.audit import file
from service_kit.audit.chain import ChainKey, Head, Person
from service_kit.audit.commands import retained_since
from service_kit.audit.damage import CHANGED, first_damage
from service_kit.audit.history import Actor, Entry, History
from service_kit.secrets import SecretKey

KEY: Final = ChainKey(b"a key of the tests, of 32 bytes..")
AT: Final = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
FACTS: Final[dict[str, object]] = {
    "order_id": "ord_1",
    "position": 1,
    "at": AT,
    "event_type": "order_created",
    "reason": "",
}


def by_hand(*parts: bytes) -> bytes:
    """Make the keyed hash as docs/audit.md has it, with nothing of the product."""
    content = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.new(b"a key of the tests, of 32 bytes..", content, hashlib.sha256).digest()


@pytest.mark.requirement("FR-331")
class TestASeal:
    def test_is_made_as_it_is_documented(self) -> None:
        """Entries are kept for years: another version has to make the very same seals."""
        beginning = by_hand(b"head", b"ord_1", bytes(8), b"")
        assert KEY.beginning("ord_1") == Head(0, beginning)
        seal = by_hand(
            b"entry",
            (1).to_bytes(8, "big"),
            beginning,
            b"at",
            b"2026-03-01T12:00:00.123456+00:00",
            b"event_type",
            b"order_created",
            b"order_id",
            b"ord_1",
            b"position",
            b"1",
            b"reason",
            b"",
        )
        assert KEY.seal(FACTS, after=beginning) == seal
        head = by_hand(b"head", b"ord_1", (1).to_bytes(8, "big"), seal)
        assert KEY.head("ord_1", 1, seal) == Head(1, head)
        assert KEY.shown(Head(1, head)) == Head(1, by_hand(b"shown", head))

    def test_stays_the_same_for_good(self) -> None:
        seal = KEY.seal(FACTS, after=bytes(32)).hex()
        assert seal == "2556b31a4d7685f083d48bb55f29fae6912b135cfdda74d69a29e3db18b03cc3"
        person = Person(role="service", id="shop-backend", on_behalf_of="alice")
        assert KEY.reference(person, bytes(16)) == "act_d864bbcbd2a57c76dd3bb1ffda1f581f"

    def test_is_another_one_for_anything_else(self) -> None:
        other: list[dict[str, object]] = [
            FACTS,
            {**FACTS, "reason": "x"},
            {**FACTS, "reason": "\0"},
            {**FACTS, "event_type": "order_create", "order_id": "dord_1"},
            {**FACTS, "at": AT + timedelta(microseconds=1)},
            {**FACTS, "position": 2},
            {name: fact for name, fact in FACTS.items() if name != "reason"},
            {**{n: f for n, f in FACTS.items() if n != "reason"}, "seaso": "n"},
            {**FACTS, "more": ""},
        ]
        seals = {KEY.seal(facts, after=bytes(32)) for facts in other}
        seals.add(KEY.seal(FACTS, after=bytes(31) + b"\1"))
        seals.add(ChainKey(bytes(32)).seal(FACTS, after=bytes(32)))
        assert len(seals) == len(other) + 2

    def test_does_not_depend_on_the_zone_or_the_order(self) -> None:
        kathmandu = timezone(timedelta(hours=5, minutes=45))
        turned = dict(reversed(FACTS.items())) | {"at": AT.astimezone(kathmandu)}
        assert KEY.seal(turned, after=b"") == KEY.seal(FACTS, after=b"")

    def test_is_not_one_of_another_kind(self) -> None:
        """What a seal of one kind covers is never what one of another kind covers."""
        person = Person(role="a", id="b", on_behalf_of="c")
        made = [
            KEY.seal({}, after=b""),
            KEY.head("", 0, b"").seal,
            KEY.line("", after=b""),
            KEY.anonymisation(AT, AT),
            KEY.shown(Head(0, b"")).seal,
        ]
        assert all(one != other for one, other in combinations(made, 2))
        assert KEY.reference(person, b"")[4:] not in {seal.hex()[:32] for seal in made}

    def test_is_of_one_service_and_secret(self) -> None:
        secrets = (SecretKey(b"one"), SecretKey(b"other"))
        keys = [ChainKey.of(service, s) for service in ("orders", "payments") for s in secrets]
        assert len({key.seal(FACTS, after=b"") for key in keys}) == 4


@pytest.mark.requirement("FR-336")
class TestAReference:
    def test_is_another_one_for_every_entry(self) -> None:
        alice = Person(role="customer", id="alice", on_behalf_of="")
        one, other = KEY.reference(alice, bytes(16)), KEY.reference(alice, b"\1" * 16)
        assert one != other
        assert one.startswith("act_")
        assert len(one) == len("act_") + 32

    def test_is_of_the_whole_person(self) -> None:
        persons = [
            Person("customer", "alice", ""),
            Person("customer", "alic", "e"),
            Person("customera", "lice", ""),
            Person("service", "alice", ""),
            Person("customer", "", "alice"),
        ]
        assert len({KEY.reference(person, bytes(16)) for person in persons}) == len(persons)


def entry(position: int, after: Head, **facts: Any) -> Entry:
    """Build an entry that is right."""
    salt = bytes([position] * 16)
    person = Person("customer", "alice", "")
    told = {
        "order_id": "ord_1",
        "position": position,
        "actor_role": person.role,
        "actor_reference": KEY.reference(person, salt),
        "at": AT,
        "event_type": f"event {position}",
        **facts,
    }
    return Entry(position, told, 1, KEY.seal(told, after=after.seal), Actor(salt, "alice", ""))


def history(entries: int) -> History:
    """Build a history of so many entries."""
    head, made = KEY.beginning("ord_1"), []
    for position in range(1, entries + 1):
        made.append(entry(position, head))
        head = KEY.head("ord_1", position, made[-1].seal)
    return History("ord_1", head, tuple(made))


@pytest.mark.requirement("FR-332")
class TestAHistory:
    @pytest.mark.parametrize("entries", [0, 1, 2, 50])
    def test_of_any_length_is_sound(self, entries: int) -> None:
        assert first_damage(history(entries), KEY) is None

    def test_with_an_entry_of_another_history_is_not(self) -> None:
        one = history(3)
        foreign = entry(2, KEY.beginning("ord_2"), order_id="ord_2")
        damage = first_damage(
            History("ord_1", one.head, (one.entries[0], foreign, one.entries[2])), KEY
        )
        assert damage is not None
        assert (damage.position, damage.what) == (2, CHANGED)


@pytest.mark.requirement("FR-338")
class TestAFile:
    def text(self) -> str:
        made = history(2)
        assert made.head is not None
        shown = History("ord_1", KEY.shown(made.head), made.entries, is_exported=True)
        part = file.Part("orders", shown, AT, rows=[("order", {"id": "ord_1", "at": AT})])
        out = io.StringIO()
        file.write(out, KEY, file.Export(subject="ord_1", at=AT, lines=0, parts=[part]))
        return out.getvalue()

    def test_comes_back_as_it_was_written(self) -> None:
        export = file.read(self.text().splitlines(), KEY)
        assert (export.subject, export.at, export.lines) == ("ord_1", AT, 6)
        [part] = export.parts
        assert (part.service, part.anonymised_before) == ("orders", AT)
        assert first_damage(part.history, KEY) is None

    def test_of_a_format_to_come_is_told(self) -> None:
        seal, lines = b"", []
        for line in ({"line": 1, "is": "export", "format": 2}, {"line": 2, "is": "end"}):
            text = json.dumps(line, sort_keys=True, separators=(",", ":"))
            seal = KEY.line(text, after=seal)
            lines.append(json.dumps({**line, "seal": seal.hex()}))
        with pytest.raises(file.FileDamaged, match="format known here"):
            file.read(lines, KEY)

    @pytest.mark.parametrize("lines", [0, 1, 5])
    def test_that_was_cut_is_told(self, lines: int) -> None:
        with pytest.raises(file.FileDamaged) as damaged:
            file.read(self.text().splitlines()[:lines], KEY)
        assert damaged.value.line == lines + 1


@pytest.mark.requirement("FR-340")
@pytest.mark.parametrize(
    ("now", "years", "since"),
    [
        (datetime(2026, 11, 26, 3, tzinfo=UTC), 7, datetime(2019, 11, 26, tzinfo=UTC)),
        (datetime(2028, 2, 29, 3, tzinfo=UTC), 7, datetime(2021, 2, 28, tzinfo=UTC)),
        (datetime(2028, 2, 29, 3, tzinfo=UTC), 4, datetime(2024, 2, 29, tzinfo=UTC)),
    ],
)
def test_the_retention_is_whole_years(now: datetime, years: int, since: datetime) -> None:
    assert retained_since(years, now) == since
