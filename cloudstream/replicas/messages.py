"""What replicas say to each other on top of HTTP."""

from streamkit.errors import NodeNotConnected

NODE_HEADER = "Cloudstream-Node"
"""In a request: the node it is for. It counts from another replica only."""
NOT_HERE_HEADER = "Cloudstream-Not-Here"
"""In an answer: this replica does not hold that node, and has done nothing."""


class NodeNotHere(NodeNotConnected):
    """Another replica passed a request on for a node that is not connected here."""
