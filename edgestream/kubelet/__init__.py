"""The kubelet service: answers kubelet requests in process; it listens on nothing."""
