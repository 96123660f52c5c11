"""The cloud service: takes the API server's kubelet requests and carries each to its edge node."""
