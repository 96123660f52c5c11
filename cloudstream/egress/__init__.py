"""Connections of API servers that come by HTTP CONNECT, as an egress selector makes them."""
