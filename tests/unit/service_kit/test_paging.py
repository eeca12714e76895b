"""Page tokens are good for what they were made for, and for nothing else."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_kit.errors import InvalidPageToken
from service_kit.paging import PageTokens

TOKENS = PageTokens(b"k" * 32)
SCOPE = "ListOrders customer cus_1 status=1"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(scope=TEXTS, position=TEXTS)
def test_a_token_gives_back_its_position(scope: str, position: str) -> None:
    assert TOKENS.open(TOKENS.seal(scope, position), scope) == position


@given(scope=TEXTS, other=TEXTS, position=TEXTS)
def test_threat_11_a_token_is_refused_in_another_scope(
    scope: str, other: str, position: str
) -> None:
    if scope != other:
        with pytest.raises(InvalidPageToken):
            TOKENS.open(TOKENS.seal(scope, position), other)


def test_nothing_moves_between_scope_and_position() -> None:
    with pytest.raises(InvalidPageToken):
        TOKENS.open(TOKENS.seal("ab", "c"), "a")


def test_a_token_fits_into_a_url() -> None:
    token = TOKENS.seal(SCOPE, "2026-11-22T10:00:00.000001Z|ord_019a8c2f5d7e7b3c8f21d4a6b8c0e2f4")
    assert base64.urlsafe_b64encode(base64.urlsafe_b64decode(token + "==")).rstrip(b"=")
    assert "=" not in token
    assert len(token) <= 1024


@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_threat_11_an_altered_token_is_refused(place: int, bit: int) -> None:
    token = TOKENS.seal(SCOPE, "position")
    content = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    content[place % len(content)] ^= 1 << bit
    with pytest.raises(InvalidPageToken):
        TOKENS.open(base64.urlsafe_b64encode(content).decode().rstrip("="), SCOPE)


@pytest.mark.parametrize(
    "token", ["", "x", "page 2", "é", "AAAA", "=", TOKENS.seal(SCOPE, "p") + "!"]
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidPageToken):
        TOKENS.open(token, SCOPE)


def test_a_token_of_another_key_is_refused() -> None:
    with pytest.raises(InvalidPageToken):
        TOKENS.open(PageTokens(b"other" * 8).seal(SCOPE, "p"), SCOPE)
