"""SPDY/3.1, as far as the streams of a kubelet speak it; without any I/O.

``frames``   where frames begin and end, and what their headers say
``headers``  the compressed block of headers in frames that open and accept streams
``server``   the server's end of a connection: streams that a client opens
``pings``    takes a client's pings out of what is passed on
``outputs``  notes which streams of a server have ended
"""
