"""A plain client for a CRI socket, independent of the one under test."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from lab.programs import LabError

PROTO = Path(__file__).parents[1] / "proto" / "cri.proto"


def compile_descriptors(proto: Path = PROTO) -> bytes:
    """Compile a proto file to a serialised descriptor set (needs grpcio-tools)."""
    from grpc_tools import protoc  # not needed by those who bring a ready-made set

    with tempfile.NamedTemporaryFile() as out:
        options = [f"-I{proto.parent}", f"--descriptor_set_out={out.name}", str(proto)]
        if protoc.main(["protoc", *options]) != 0:
            raise LabError(f"cannot compile {proto}")
        return Path(out.name).read_bytes()


class Cri:
    """Calls to a CRI socket: ``cri("StopContainer", container_id=..., timeout=1)``.

    A call returns the reply's message and raises ``grpc.RpcError``; ``deadline`` is in seconds.
    The messages live in a descriptor pool of their own, so that a program that
    has loaded another copy of the CRI definitions can use this client as well.
    """

    def __init__(self, target: Path, descriptors: bytes) -> None:
        files = descriptor_pb2.FileDescriptorSet.FromString(descriptors)
        pool = descriptor_pool.DescriptorPool()
        self.channel = grpc.insecure_channel(f"unix://{target}")
        self._calls: dict[str, tuple[type[Any], Callable[..., Any]]] = {}
        for file in files.file:
            pool.Add(file)
            for service in pool.FindFileByName(file.name).services_by_name.values():
                for method in service.methods:
                    request: type[Any] = message_factory.GetMessageClass(method.input_type)
                    reply: type[Any] = message_factory.GetMessageClass(method.output_type)
                    path = f"/{service.full_name}/{method.name}"
                    encode, decode = request.SerializeToString, reply.FromString
                    call = self.channel.unary_unary(path, encode, decode)
                    self._calls[method.name] = request, call

    def __call__(self, method: str, /, *, deadline: float = 30, **fields: Any) -> Any:
        request, call = self._calls[method]
        return call(request(**fields), timeout=deadline)
