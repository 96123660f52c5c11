"""What the cloud service wants of the Kubernetes API; none of it is ever waited for to serve."""
