"""Names as Kubernetes allows them."""

import pytest

from streamkit.names import is_dns_subdomain


@pytest.mark.parametrize("name", ["a", "edge-1", "1001", "edge-1.lab.example", "x" * 253])
def test_names_that_a_node_may_bear(name: str) -> None:
    assert is_dns_subdomain(name)


@pytest.mark.parametrize(
    "name",
    ["", "Edge", "edge_1", "-a", "a-", ".a", "a.", "a..b", "a/b", "..", "a;b", "a\n", "x" * 254],
)
def test_names_that_it_may_not(name: str) -> None:
    assert not is_dns_subdomain(name)
