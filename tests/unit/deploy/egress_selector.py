"""An EgressSelectorConfiguration as kube-apiserver's type has it, with what it checks of it.

The type is ``apiserver.k8s.io/v1beta1``; no schema of it is published, for it is read from a file
and never from the API. That the files exist which it names is checked on the host only.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TlsConfig(_Part):
    """What is shown to the proxy, and who is believed to be it."""

    caBundle: str = ""
    clientKey: str = Field(min_length=1)
    clientCert: str = Field(min_length=1)


class Tcp(_Part):
    """A proxy by address; TLS goes with ``https`` and with nothing else."""

    url: str = Field(pattern="^https?://.")
    tlsConfig: TlsConfig | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        assert self.url.startswith("https://") is (self.tlsConfig is not None)
        return self


class Uds(_Part):
    """A proxy by unix socket."""

    udsName: str = Field(pattern="^/.")


class Transport(_Part):
    """One of the two."""

    tcp: Tcp | None = None
    uds: Uds | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        assert (self.tcp is None) is not (self.uds is None)
        return self


class Connection(_Part):
    """``Direct`` has no transport; ``GRPC`` goes by unix socket only."""

    proxyProtocol: Literal["Direct", "HTTPConnect", "GRPC"]
    transport: Transport | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        assert (self.transport is None) is (self.proxyProtocol == "Direct")
        assert self.proxyProtocol != "GRPC" or (self.transport and self.transport.uds)
        return self


class Selection(_Part):
    """Where connections of one kind go."""

    name: Literal["controlplane", "cluster", "etcd"]
    connection: Connection


class EgressSelectorConfiguration(_Part):
    """The whole file; no name stands twice."""

    apiVersion: Literal["apiserver.k8s.io/v1beta1"]
    kind: Literal["EgressSelectorConfiguration"]
    egressSelections: list[Selection]

    @model_validator(mode="after")
    def _differ(self) -> Self:
        names = [each.name for each in self.egressSelections]
        assert len({*names}) == len(names)
        return self
