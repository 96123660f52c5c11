"""The embedded lab: a node with real pods, both services, and kubectl in front of a stand-in.

    kubectl ──▶ lab.apiserver ──▶ cloudstream ◀── edgestream ──▶ a private containerd ──▶ lab.pods
                :6443             :10003, :10004

``make lab-up`` starts it, ``make lab-down`` removes every trace. LAB_DIR (default ``.lab``) says
where it lives, STREAM_PORT, TUNNEL_PORT and APISERVER_PORT where it listens on loopback. What runs
where is told in ``$LAB_DIR/env``, as lines that a shell can source::

    KUBECONFIG, KUBECACHEDIR, KUBECTL            what kubectl needs, and its path
    STREAM_ADDR, TUNNEL_ADDR, APISERVER_ADDR     host:port
    PKI_DIR                                      ca, apiserver-client, edge-edge-1, stream, tunnel
    CLOUD_CONFIG, EDGE_CONFIG                    complete: the services may be started by hand too
    CRI_SOCKET                                   of the private containerd
    CLOUD_PID, EDGE_PID, APISERVER_PID
    NODE_NAME, NODE_IP
"""
