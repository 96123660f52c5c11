"""The container runtime interface: a client, and the kubelet's way to find pods in its answers.

``cri_pb2*`` are generated from ``proto/cri.proto`` by ``proto/generate.sh``.
"""
