"""Other cloud services of the same edges, and requests that are passed on to them."""
