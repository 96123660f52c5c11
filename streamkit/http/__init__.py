"""HTTP/1.1 as bytes, over h11: how v1 channels carry answers and how sockets speak."""
