"""The one taxonomy of faults.

* ``StreamError``
    * ``ProtocolError``      KS1xxx  the tunnel's own language
    * ``TunnelError``        KS2xxx  the link between cloud and edge
    * ``ChannelError``       KS3xxx  one exchange
    * ``RouteError``         KS4xxx  who asks, for what, and which node serves it
    * ``BackendError``       KS5xxx  the container runtime or the local kubelet
    * ``CertError``          KS6xxx  keys and certificates
    * ``ConfigError``        KS7xxx  the configuration and the command line

An error's ``str()`` is one sentence for the person who reads it: it names the thing at fault and
holds no secret, no payload and no stack. ``code`` is stable, ``hint`` says what to do,
``http_status`` is what an HTTP caller is told where nothing has been relayed yet, ``reason`` is the
CamelCase word of a Kubernetes Status object.
"""

from typing import ClassVar


class StreamError(Exception):
    """Base of all faults that this project raises on purpose."""

    code: ClassVar[str] = "KS0001"
    http_status: ClassVar[int | None] = None
    reason: ClassVar[str] = "InternalError"
    default_hint: ClassVar[str] = ""

    def __init__(self, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.hint = hint or self.default_hint

    def __str__(self) -> str:
        return self.sentence


# -- KS1: protocol -----------------------------------------------------------------------------


class ProtocolError(StreamError):
    """The tunnel's language was broken."""

    code = "KS1000"


class RemoteProtocolError(ProtocolError):
    """The peer sent what its protocol version does not allow: the tunnel is closed."""

    code = "KS1001"


class MalformedMessage(RemoteProtocolError):
    """A message that can't be decoded: empty, cut inside a varint, or an over-long varint."""

    code = "KS1002"


class MessageTooLarge(RemoteProtocolError):
    """A message beyond the size that the receiver takes."""

    code = "KS1004"


class BadConnectRequest(RemoteProtocolError):
    """The JSON of a connect message can't be used, or made; costs only the channel."""

    code = "KS1003"
    http_status = 400
    reason = "BadRequest"


class LocalProtocolError(ProtocolError):
    """Our own code asked for something its state does not allow: a bug, never retried."""

    code = "KS1100"


# -- KS2: tunnel -------------------------------------------------------------------------------


class TunnelError(StreamError):
    """The link between cloud and edge."""

    code = "KS2000"
    http_status = 503
    reason = "EdgeTunnelLost"


class TunnelClosed(TunnelError):
    """The tunnel ended while something still used it."""

    code = "KS2001"


class TunnelReplaced(TunnelError):
    """A newer tunnel of the same node took over."""

    code = "KS2002"


class TunnelLost(TunnelError):
    """The link broke; the session may go on over another tunnel."""

    code = "KS2007"


class HeartbeatTimeout(TunnelError):
    """The peer was silent for longer than the heartbeat allows."""

    code = "KS2003"


class DialFailed(TunnelError):
    """The edge could not reach the cloud."""

    code = "KS2004"


class HandshakeRejected(TunnelError):
    """The peer answered the handshake with a refusal."""

    code = "KS2005"


class NodeIdentityMismatch(HandshakeRejected):
    """The announced node name is not the one in the client certificate."""

    code = "KS2006"
    http_status = 403
    reason = "Forbidden"


# -- KS3: channel ------------------------------------------------------------------------------


class ChannelError(StreamError):
    """One exchange failed; the tunnel and its other channels are unharmed."""

    code = "KS3000"
    http_status = 502


class ChannelReset(ChannelError):
    """The peer, or the caller, ended the exchange before it was complete."""

    code = "KS3001"


class ChannelOverflow(ChannelError):
    """The reader of a channel stalled and its buffer limit was reached."""

    code = "KS3002"


class OpenTimeout(ChannelError):
    """The edge did not answer within the time limit."""

    code = "KS3003"
    http_status = 504
    reason = "Timeout"


class IncompleteAnswer(ChannelError):
    """The answer broke off before its end."""

    code = "KS3004"


# -- KS4: route --------------------------------------------------------------------------------


class RouteError(StreamError):
    """Who asks, for what, and which node serves it."""

    code = "KS4000"
    http_status = 500


class BadKubeletPath(RouteError):
    """No such route, as a kubelet would say."""

    code = "KS4001"
    http_status = 404
    reason = "NotFound"


class PodNotFound(RouteError):
    """The pod does not exist."""

    code = "KS4002"
    http_status = 404
    reason = "NotFound"


class PodNotScheduled(RouteError):
    """The pod has no node yet."""

    code = "KS4003"
    http_status = 409
    reason = "Conflict"


class NodeNotConnected(RouteError):
    """No tunnel of that node is open."""

    code = "KS4004"
    http_status = 503
    reason = "EdgeNodeOffline"
    default_hint = "check that the edge agent runs there and reaches the tunnel port"


class NodeUnknown(RouteError):
    """The request names no node that could be found."""

    code = "KS4005"
    http_status = 404
    reason = "NotFound"


class Unauthenticated(RouteError):
    """The caller showed no client certificate and no token."""

    code = "KS4006"
    http_status = 401
    reason = "Unauthorized"


class NotAllowed(RouteError):
    """The caller is known and may not do this."""

    code = "KS4007"
    http_status = 403
    reason = "Forbidden"


class BadRequest(RouteError):
    """The request can't be understood."""

    code = "KS4008"
    http_status = 400
    reason = "BadRequest"


class TooManyRequests(RouteError):
    """A limit on requests in flight is reached."""

    code = "KS4009"
    http_status = 503
    reason = "TooManyRequests"


class LookupFailed(RouteError):
    """The Kubernetes API did not answer, or not with what it was asked for."""

    code = "KS4010"
    http_status = 503
    reason = "ServiceUnavailable"


class Draining(RouteError):
    """The service stops, and takes no new requests."""

    code = "KS4011"
    http_status = 503
    reason = "ServiceUnavailable"
    default_hint = "try again: another replica, or the restarted service, will answer"


class ReplicaUnreachable(RouteError):
    """Another replica of the cloud service, which may hold the node, can't be connected to."""

    code = "KS4012"
    http_status = 503
    reason = "ServiceUnavailable"


class EgressFailed(RouteError):
    """What an API server asked for by CONNECT can't be reached from here."""

    code = "KS4020"
    http_status = 502
    reason = "BadGateway"


# -- KS5: backend ------------------------------------------------------------------------------


class BackendError(StreamError):
    """The container runtime or the local kubelet."""

    code = "KS5000"
    http_status = 500


class RuntimeUnavailable(BackendError):
    """The runtime's socket does not answer."""

    code = "KS5001"
    default_hint = "check that containerd runs and that its socket is the configured one"


class RuntimeRejected(BackendError):
    """The runtime answered with an error of its own."""

    code = "KS5002"


class StreamingDialFailed(BackendError):
    """The runtime's streaming server, or the local kubelet, can't be reached or broke off."""

    code = "KS5003"


class LogUnavailable(BackendError):
    """The log file of the container can't be read."""

    code = "KS5004"
    http_status = 400


# -- KS6: certificates -------------------------------------------------------------------------


class CertError(StreamError):
    """Keys and certificates."""

    code = "KS6000"


class CertMissing(CertError):
    """A key or certificate file does not exist or can't be read."""

    code = "KS6001"


class CertInvalid(CertError):
    """A key or certificate file holds something else, or key and certificate don't match."""

    code = "KS6002"


class UntrustedPeer(CertError):
    """The peer's certificate does not chain to the configured CA, or names somebody else."""

    code = "KS6003"


# -- KS7: configuration ------------------------------------------------------------------------


class ConfigError(StreamError):
    """The configuration or the command line can't be used as it stands."""

    code = "KS7000"


class ConfigInvalid(ConfigError):
    """A configuration file has problems; the sentence lists them all, a line each."""

    code = "KS7001"


class PortInUse(ConfigError):
    """A listening address is taken, or may not be bound."""

    code = "KS7002"


class PacketFilterError(ConfigError):
    """The host's packet filter can't be read, or not be changed as it should be."""

    code = "KS7003"


def error_of(code: str, sentence: str) -> StreamError:
    """The error that a peer reported by its code; a ChannelError where that is not known here."""
    kinds: list[type[StreamError]] = [StreamError]
    for kind in kinds:
        if kind.code == code:
            return kind(sentence)
        if kind.__init__ is StreamError.__init__:
            kinds.extend(kind.__subclasses__())
    return ChannelError(sentence)
