"""Calls without a contract, health and reflection: what they ask, if they ask in time."""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from service_kit.error_table import ErrorTable
from service_kit.errors import FieldViolation, InvalidRequest
from service_kit.patience import NoRequest, WaitingRoom
from service_kit.status import CALLER_GONE, abort
from service_kit.stream import CallerGone

Parse = Callable[[bytes], Any]


def on_request(answer: Callable[..., Any], parse: Parse, room: WaitingRoom) -> Callable[..., Any]:
    """Return a handler that gives the one message of a call to `answer`."""

    def serve(messages: Iterator[bytes], context: grpc.ServicerContext, *send: Any) -> Any:
        question = next(_parsed(messages, context, parse, room), None)
        if question is None:
            _refuse(context)
        return answer(question, context, *send)

    return serve


def on_requests(answer: Callable[..., Any], parse: Parse, room: WaitingRoom) -> Callable[..., Any]:
    """Return a handler that gives the messages of a call to `answer`, as they come."""

    def serve(messages: Iterator[bytes], context: grpc.ServicerContext) -> Any:
        return answer(_parsed(messages, context, parse, room), context)

    return serve


def _parsed(
    messages: Iterator[bytes], context: grpc.ServicerContext, parse: Parse, room: WaitingRoom
) -> Iterator[Any]:
    while True:
        try:
            question = parse(room.next_message(messages, context))
        except NoRequest:
            return
        except CallerGone:
            # It may be we who cut it off, and its cancellation may be on the way still.
            abort(context, CALLER_GONE, ())
        except DecodeError:
            _refuse(context)
        yield question


def _refuse(context: grpc.ServicerContext) -> NoReturn:
    problem = FieldViolation("request", "must be a message of this method's request type")
    status = ErrorTable({}).status(InvalidRequest(violations=[problem]))
    assert status is not None
    abort(context, status, ())
