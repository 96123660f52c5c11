"""A stand-in for kube-apiserver, as far as kubectl's debugging commands need one.

It shows the pods of private containerds as Pod objects, keeps a few object kinds in memory, and
turns logs, exec, attach, port-forward and node proxy into requests to the node's kubelet port:
with the targets, headers and connections that a real API server was recorded with.

    kubectl ──TLS──▶ server ─▶ answer ─┬─▶ resources, store, cripods, table     what ``get`` shows
                     http1, identity   ├─▶ podlog, upgrade, nodeproxy ─▶ kubelet ──TLS──▶ :10351
                                       └─▶ discovery, status

It differs from the real one where that costs nothing to the tests: HTTP/1.1 on both sides;
kubectl's WebSockets are refused, upon which kubectl comes back with SPDY and says nothing; objects
deleted between a list and its watch go unmentioned; HTML that a node answers is not rewritten.
"""
