"""So many calls at a time."""

import pytest

from service_kit.places import Places


@pytest.mark.requirement("FR-351")
class TestPlaces:
    def test_are_as_many_as_was_said_and_not_one_more(self) -> None:
        places = Places(2)
        assert [places.take() for _ in range(4)] == [True, True, False, False]

    def test_are_free_again_once_they_are_given_back(self) -> None:
        places = Places(1)
        assert places.take()
        assert not places.take()
        places.give_back()
        assert [places.take() for _ in range(2)] == [True, False]
