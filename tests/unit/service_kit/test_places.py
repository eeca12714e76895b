"""So many calls at a time."""

import pytest

from service_kit.errors import Overloaded
from service_kit.places import Places


@pytest.mark.requirement("FR-351")
class TestPlaces:
    def test_are_as_many_as_was_said_and_not_one_more(self) -> None:
        places = Places(2)
        with places.taken(), places.taken(), pytest.raises(Overloaded), places.taken():
            pass

    def test_are_free_again_after_a_call_that_failed(self) -> None:
        places = Places(1)
        with pytest.raises(ZeroDivisionError), places.taken():
            raise ZeroDivisionError
        with places.taken():
            pass

    def test_are_not_made_by_a_refusal(self) -> None:
        places = Places(1)
        with places.taken():
            for _ in range(2):
                with pytest.raises(Overloaded), places.taken():
                    pass
