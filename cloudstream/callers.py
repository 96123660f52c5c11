"""Who may call the stream port.

A certificate of the right CA is not enough: where the CA is the cluster's own, every kubelet and
every user with a certificate has one. So the certificate must also name an API server.
"""

from collections.abc import Mapping

from cloudstream.config import ApiClientSettings
from streamkit.errors import NotAllowed, Unauthenticated
from streamkit.pki.contexts import peer_identity


class Callers:
    """The identities that are let in."""

    def __init__(self, settings: ApiClientSettings) -> None:
        self._common_names = frozenset(settings.common_names)
        self._organizations = frozenset(settings.organizations)

    def check(self, peercert: Mapping[str, object] | None) -> None:
        """Let a verified client certificate in, or say why not.

        Raises Unauthenticated where there is none, NotAllowed where it names nobody that may call.
        """
        if not peercert:
            raise Unauthenticated(
                "the stream port serves callers with a client certificate only",
                hint="start the API server with --kubelet-client-certificate",
            )
        identity = peer_identity(peercert)
        if identity.common_name in self._common_names:
            return
        if self._organizations.isdisjoint(identity.organizations):
            raise NotAllowed(
                f'the client certificate of "{identity.common_name}" may not call the stream port',
                hint="allow it with apiClients.commonNames or apiClients.organizations",
            )
