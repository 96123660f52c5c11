"""The channels of one node, driven over whichever tunnel carries them.

A tunnel adapter (one per side, it owns the WebSocket) hands in messages and takes out messages; the
application sees channels. Everything here is synchronous: callbacks in the manner of
``asyncio.Protocol``, so that a piece of data crosses without a task switch.
"""
