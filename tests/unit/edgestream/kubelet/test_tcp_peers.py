"""What the kernel tells about the other end of a connection."""

import socket
import time

import pytest

from edgestream.kubelet.tcp_peers import has_closed

MANY = 1 << 20


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_a_peer_that_closes_behind_unread_data(family: socket.AddressFamily, address: str) -> None:
    with socket.create_server((address, 0), family=family) as server:
        client = socket.create_connection(server.getsockname()[:2])
        peer, _ = server.accept()
    with client:
        assert not has_closed(client)
        peer.sendall(bytes(MANY))
        assert not has_closed(client)
        peer.close()
        assert has_closed(client)
        received = 0
        while data := client.recv(MANY):
            received += len(data)
        assert received == MANY


def test_costs_little() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
    with client, peer:
        begin = time.perf_counter()
        for _ in range(100):
            has_closed(client)
        assert time.perf_counter() - begin < 1


def test_a_socket_that_is_not_connected() -> None:
    with socket.socket() as lonely:
        assert not has_closed(lonely)
