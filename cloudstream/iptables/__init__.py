"""Leads API servers' connections to edge nodes to the cloud service: the chain TUNNEL-PORT.

An API server dials an edge node's address at the kubelet port. On its host this chain of the table
nat sends such connections to the stream port of the cloud service which holds the node. Chain,
jumps and comment are KubeEdge's.
"""
