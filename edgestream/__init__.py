"""The edge agent: dials the cloud and answers kubelet requests in the kubelet's place.

``connector``  dials, registers, redials
``kubelet``    the in-process kubelet service: routes and their handlers, no port
``spdy``       SPDY/3.1 without I/O
``cri``        the container runtime over its unix socket (the only room that knows gRPC)
``logs``       the CRI log reader
"""
