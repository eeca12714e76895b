"""What can be called: every RPC of a service, and what every server has besides."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from service_kit.contract.method_contracts import method_contracts
from service_kit.reflection import V1, V1ALPHA
from tests.client import Metadata

_HEALTH: Final[Any] = health_pb2


@dataclass(frozen=True)
class Target:
    """A method, the types of its messages, who may call it, and its reasons to refuse."""

    method: str
    request: type[Message]
    response: type[Message]
    roles: Collection[str] = ()
    reasons: Collection[str] = ()
    has_many_responses: bool = False

    def send(
        self, channel: grpc.Channel, body: bytes, metadata: Metadata, timeout: float
    ) -> Message:
        """Call it and return the first answer. Raises grpc.RpcError."""
        if not self.has_many_responses:
            method: Any = channel.unary_unary(
                self.method, response_deserializer=self.response.FromString
            )
            answer: Message = method(body, metadata=tuple(metadata), timeout=timeout)
            return answer
        stream: Any = channel.unary_stream(
            self.method, response_deserializer=self.response.FromString
        )
        answers = stream(body, metadata=tuple(metadata), timeout=timeout)
        try:
            return next(answers, None) or self.response()
        finally:
            answers.cancel()


def targets_of(service: str) -> Iterator[Target]:
    """List the methods of a service of the contract."""
    rpcs = descriptor_pool.Default().FindServiceByName(service).methods_by_name
    for method, contract in method_contracts(service).items():
        rpc: Any = rpcs[method.rpartition("/")[2]]
        yield Target(
            method,
            message_factory.GetMessageClass(rpc.input_type),
            message_factory.GetMessageClass(rpc.output_type),
            contract.roles,
            contract.error_reasons,
            rpc.server_streaming,
        )


PLAIN: Final = (
    Target("/grpc.health.v1.Health/Check", _HEALTH.HealthCheckRequest, _HEALTH.HealthCheckResponse),
    Target("/grpc.health.v1.Health/List", _HEALTH.HealthListRequest, _HEALTH.HealthListResponse),
    Target(
        "/grpc.health.v1.Health/Watch",
        _HEALTH.HealthCheckRequest,
        _HEALTH.HealthCheckResponse,
        has_many_responses=True,
    ),
    *(
        Target(
            f"/{version}/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest,
            reflection_pb2.ServerReflectionResponse,
            has_many_responses=True,
        )
        for version in (V1, V1ALPHA)
    ),
)
