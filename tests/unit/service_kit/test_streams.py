"""Streams of a server, with calls that stand for grpc's."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from service_kit.errors import Overloaded, ServerDraining
from service_kit.stream import CallerGone, Stream
from service_kit.streams import Streams


class OpenCall:
    """A call in progress, as much of it as a stream needs."""

    def __init__(self, *, caller_is_gone: bool = False) -> None:
        self.is_cancelled = False
        self._caller_is_gone = caller_is_gone
        self._callbacks: list[Callable[[], None]] = []

    def add_callback(self, callback: Callable[[], None]) -> bool:
        if not self._caller_is_gone:
            self._callbacks.append(callback)
        return not self._caller_is_gone

    def finish(self) -> None:
        """End the call, from whatever side."""
        for callback in self._callbacks:
            callback()

    def cancel(self) -> None:
        self.is_cancelled = True
        self.finish()


def opened(streams: Streams, call: OpenCall | None = None) -> AbstractContextManager[Stream]:
    """Open a stream for a call."""
    return streams.opened(call or OpenCall())  # type: ignore[arg-type]


@pytest.fixture
def streams() -> Streams:
    return Streams(limit=1)


class TestAStream:
    def test_sleeps_for_as_long_as_it_is_told_and_no_longer_than_it_is_quiet(self) -> None:
        stream = Stream()
        stream.sleep(0.01)
        stream.wake()
        stream.sleep(60)

    def test_ends_with_the_first_reason_it_is_given(self) -> None:
        stream = Stream()
        stream.check()
        stream.end(ServerDraining())
        stream.end(CallerGone())
        with pytest.raises(ServerDraining):
            stream.sleep(60)
        with pytest.raises(ServerDraining):
            stream.check()


@pytest.mark.requirement("FR-243")
class TestTheLimit:
    def test_counts_those_that_are_open(self, streams: Streams) -> None:
        with opened(streams):
            assert streams.any_is_open
            with pytest.raises(Overloaded), opened(streams):
                pass
        with opened(streams):
            pass

    def test_is_empty_without_any(self, streams: Streams) -> None:
        assert not streams.any_is_open

    def test_gives_the_place_of_one_that_failed_to_another(self, streams: Streams) -> None:
        with pytest.raises(ZeroDivisionError), opened(streams):
            raise ZeroDivisionError
        with opened(streams):
            pass

    def test_is_none_if_there_are_to_be_none(self) -> None:
        with pytest.raises(Overloaded), opened(Streams(limit=0)):
            pass


class TestACallerThatIsGone:
    def test_ends_its_stream(self, streams: Streams) -> None:
        call = OpenCall()
        with opened(streams, call) as stream:
            call.finish()
            with pytest.raises(CallerGone):
                stream.sleep(60)

    def test_before_its_stream_was_open_ends_it_as_well(self, streams: Streams) -> None:
        with (
            opened(streams, OpenCall(caller_is_gone=True)) as stream,
            pytest.raises(CallerGone),
        ):
            stream.check()
        streams.drain()


@pytest.mark.requirement("FR-245")
class TestTheDrain:
    def test_opens_no_more(self, streams: Streams) -> None:
        streams.drain()
        with pytest.raises(ServerDraining), opened(streams):
            pass

    def test_ends_what_is_open_and_cuts_off_who_does_not_take_the_end(
        self, streams: Streams
    ) -> None:
        call = OpenCall()
        with opened(streams, call) as stream:
            streams.drain()
            assert call.is_cancelled
            with pytest.raises(ServerDraining):
                stream.check()

    def test_cuts_off_a_call_that_is_not_finished_although_its_stream_is(
        self, streams: Streams
    ) -> None:
        """The last message is on its way to a reader that does not read."""
        call = OpenCall()
        with opened(streams, call):
            pass
        streams.drain()
        assert call.is_cancelled

    def test_leaves_those_alone_that_are_over(self, streams: Streams) -> None:
        call = OpenCall()
        with opened(streams, call):
            pass
        call.finish()
        streams.drain()
        assert not call.is_cancelled
