"""What the cloud service and the edge agent share.

``wire``     sans-I/O: messages, channels, scheduling, both wire versions (standard library only)
``http``     HTTP/1.1 heads and bodies over h11, as v1 carries them and as sockets speak them
``session``  drives a wire session over a message transport; the channel objects both sides use
``pki``      issue, inspect and load certificates
``service``  configuration, logging, tasks, listeners, command-line plumbing
``errors``   the one taxonomy of faults
"""
