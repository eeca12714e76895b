"""Server reflection in both versions, v1 and v1alpha, so that any grpcurl reads the contract."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

# For its side effect: google/rpc/error_details.proto is then in the descriptor pool, and
# grpcurl can print the details of an error.
from service_kit import status as _status  # noqa: F401
from service_kit.patience import GRACE_FOR_ALL_SECONDS, Patience
from service_kit.plain_calls import on_requests
from service_kit.side_pool import OnSidePool

V1: Final = "grpc.reflection.v1.ServerReflection"
V1ALPHA: Final = "grpc.reflection.v1alpha.ServerReflection"

_V1_FILE: Final = "grpc/reflection/v1/reflection.proto"
_THREADS: Final = 8


def enable(server: grpc.Server, service_names: Iterable[str], patience: Patience) -> None:
    """Let callers ask which services there are and what their messages look like."""
    _describe_v1()
    servicer = reflection.ReflectionServicer((*service_names, V1, V1ALPHA))
    # A reflection stream stays open as long as its caller likes; it must not hold a thread
    # that serves calls.
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="reflection")
    room = patience.room(roomy=_THREADS // 2, grace_seconds=GRACE_FOR_ALL_SECONDS)
    parse = reflection_pb2.ServerReflectionRequest.FromString
    # The messages of the two versions are the same on the wire; only the names differ.
    handler: Any = grpc.stream_stream_rpc_method_handler(
        OnSidePool(on_requests(servicer.ServerReflectionInfo, parse, room), pool),
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler})
            for name in (V1, V1ALPHA)
        )
    )


def _describe_v1() -> None:
    """Put a description of v1 into the pool: that of v1alpha under the other name."""
    pool = descriptor_pool.Default()
    try:
        pool.FindServiceByName(V1)
    except KeyError:
        pool.AddSerializedFile(_v1_file().SerializeToString())


def _v1_file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    old, file.name, file.package = f".{file.package}.", _V1_FILE, V1.rpartition(".")[0]
    new = f".{file.package}."
    file.ClearField("options")
    for message in file.message_type:
        for field in message.field:
            # Set on a scalar, even to nothing, a type name makes the file invalid.
            if field.type_name:
                field.type_name = field.type_name.replace(old, new)
    for method in file.service[0].method:
        method.input_type = method.input_type.replace(old, new)
        method.output_type = method.output_type.replace(old, new)
    return file
