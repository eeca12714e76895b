"""Reflection tells the contract in both versions of its protocol."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2

from service_kit.reflection import V1, V1ALPHA
from tests.unit.service_kit.echo import NAME, Echo, a_server, get_order, order, serving

Request = reflection_pb2.ServerReflectionRequest
Response = reflection_pb2.ServerReflectionResponse

pytestmark = pytest.mark.parametrize("version", [V1, V1ALPHA])


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    with serving(a_server()) as channel:
        yield channel


def ask(channel: grpc.Channel, version: str, request: Request) -> Response:
    call = channel.stream_stream(
        f"/{version}/ServerReflectionInfo",
        request_serializer=Request.SerializeToString,
        response_deserializer=Response.FromString,
    )
    [response] = call(iter([request]), timeout=5)
    assert isinstance(response, Response)
    return response


def described(response: Response) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    files = response.file_descriptor_response.file_descriptor_proto
    parsed = [descriptor_pb2.FileDescriptorProto.FromString(file) for file in files]
    return {file.name: file for file in parsed}


def test_lists_the_services(channel: grpc.Channel, version: str) -> None:
    response = ask(channel, version, Request(list_services=""))
    names = {service.name for service in response.list_services_response.service}
    assert names == {NAME, "grpc.health.v1.Health", V1, V1ALPHA}


@pytest.mark.parametrize("symbol", [NAME, "grpc.health.v1.Health", V1, V1ALPHA])
def test_describes_every_service_it_lists(channel: grpc.Channel, version: str, symbol: str) -> None:
    files = described(ask(channel, version, Request(file_containing_symbol=symbol)))
    services = [f"{file.package}.{one.name}" for file in files.values() for one in file.service]
    assert symbol in services


@pytest.mark.parametrize("detail", ["ErrorInfo", "BadRequest", "RetryInfo"])
def test_describes_the_details_of_errors(channel: grpc.Channel, version: str, detail: str) -> None:
    request = Request(file_containing_symbol=f"google.rpc.{detail}")
    assert "google/rpc/error_details.proto" in described(ask(channel, version, request))


def test_describes_v1_with_v1s_own_types(channel: grpc.Channel, version: str) -> None:
    [file] = described(ask(channel, version, Request(file_containing_symbol=V1))).values()
    assert file.package == "grpc.reflection.v1"
    assert "v1alpha" not in str(file)


def test_streams_that_stay_open_take_no_thread_from_the_calls(version: str) -> None:
    with serving(a_server(Echo(), threads=1, drain_seconds=0.2)) as channel:
        open_streams: list[Any] = [
            channel.stream_stream(f"/{version}/ServerReflectionInfo")(_never()) for _ in range(6)
        ]
        assert get_order(channel)(order("ord_1"), timeout=5).order.id == "ord_1"
        for stream in open_streams:
            stream.cancel()


def test_threat_15_can_be_switched_off(version: str) -> None:
    with serving(a_server(reflection=False)) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            ask(channel, version, Request(list_services=""))
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def _never() -> Any:
    threading.Event().wait(2)
    yield from ()
