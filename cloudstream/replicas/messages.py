"""What replicas say to each other on top of HTTP."""

from streamkit.errors import NodeNotConnected

NODE_HEADER = "Cloudstream-Node"
"""In a request: the node it is for. It counts from another replica only."""
NOT_HERE_HEADER = "Cloudstream-Not-Here"
"""In an answer: this replica does not hold that node, and has done nothing. See ``LEAVING``."""
LEAVING = "leaving"
"""The other header's value where the replica is about to end, and takes no edges any more."""
NOBODY = "-"
"""A name that no node can have: who asks for it only learns how the replica is."""


class NodeNotHere(NodeNotConnected):
    """Another replica passed a request on for a node that is not connected here."""

    def __init__(self, sentence: str, *, is_leaving: bool = False) -> None:
        super().__init__(sentence)
        self.is_leaving = is_leaving
        """Whether the replica that says so is about to end."""
