"""The tunnel's language, sans-I/O: bytes and events in, bytes and events out.

Standard library only. No clock, no socket, no await: ``streamkit.session`` owns those.
"""
