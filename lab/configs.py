"""The configuration files of the lab's services."""

import json
from typing import Any

import yaml

from lab.layout import HOST, NODE_IP, NODE_NAME, Layout

OFFLINE_NODE = "edge-2"
METRICS_TOKEN = "lab-metrics"
KUBELET_PORT = 10351

# Where Node objects say that the nodes are. Nobody dials these: the stand-in connects to the stream
# port instead, as DNAT would have it. It refuses to proxy to a loopback address.
_NODE_ADDRESSES = {NODE_NAME: NODE_IP, OFFLINE_NODE: "192.0.2.2"}


def write_configs(layout: Layout) -> None:
    """Write all of them; they are complete, so a service may also be started by hand with its."""
    files = {
        layout.cloud_config: _yaml(cloudcore(layout)),
        layout.edge_config: _yaml(edgecore(layout)),
        layout.kubeconfig: _yaml(kubeconfig(layout)),
        layout.apiserver_config: json.dumps(apiserver(layout), indent=2) + "\n",
    }
    for path, content in files.items():
        path.write_text(content)


def cloudcore(layout: Layout) -> dict[str, Any]:
    """The cloud service's."""
    return {
        "apiVersion": "cloudcore.config.kubeedge.io/v1alpha2",
        "kind": "CloudCore",
        "commonConfig": {"tunnelPort": KUBELET_PORT},
        "kubeAPIConfig": {"kubeConfig": str(layout.kubeconfig)},
        "modules": {
            "cloudStream": {
                "enable": True,
                "streamPort": layout.stream_port,
                "tlsStreamCAFile": str(layout.pki / "ca.crt"),
                "tlsStreamCertFile": str(layout.pki / "stream.crt"),
                "tlsStreamPrivateKeyFile": str(layout.pki / "stream.key"),
                "tunnelPort": layout.tunnel_port,
                "tlsTunnelCAFile": str(layout.pki / "ca.crt"),
                "tlsTunnelCertFile": str(layout.pki / "tunnel.crt"),
                "tlsTunnelPrivateKeyFile": str(layout.pki / "tunnel.key"),
            },
        },
        "cloudstream": {"bindAddress": HOST, "adminAddress": f"{HOST}:0"},
    }


def edgecore(layout: Layout) -> dict[str, Any]:
    """The edge agent's."""
    return {
        "apiVersion": "edgecore.config.kubeedge.io/v1alpha2",
        "kind": "EdgeCore",
        "modules": {
            "edged": {
                "hostnameOverride": NODE_NAME,
                "nodeIP": NODE_IP,
                "tailoredKubeletConfig": {
                    "containerRuntimeEndpoint": f"unix://{layout.cri_socket}",
                    "address": HOST,
                    "readOnlyPort": 10350,
                },
            },
            "edgeStream": {
                "enable": True,
                "server": f"{HOST}:{layout.tunnel_port}",
                "tlsTunnelCAFile": str(layout.pki / "ca.crt"),
                "tlsTunnelCertFile": str(layout.pki / f"edge-{NODE_NAME}.crt"),
                "tlsTunnelPrivateKeyFile": str(layout.pki / f"edge-{NODE_NAME}.key"),
                "handshakeTimeout": 30,
                "readDeadline": 15,
                "writeDeadline": 15,
            },
        },
    }


def kubeconfig(layout: Layout) -> dict[str, Any]:
    """A kubeconfig for the stand-in, whose caller may do everything."""
    server = f"https://{HOST}:{layout.apiserver_port}"
    user = {
        "client-certificate": str(layout.pki / "apiserver-client.crt"),
        "client-key": str(layout.pki / "apiserver-client.key"),
    }
    cluster = {"server": server, "certificate-authority": str(layout.pki / "ca.crt")}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "lab", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }


def apiserver(layout: Layout) -> dict[str, Any]:
    """The stand-in's: two nodes, one of which is never connected, and two pods besides CRI's."""
    stream = f"{HOST}:{layout.stream_port}"
    nodes = [
        {
            "name": name,
            "address": address,
            "port": KUBELET_PORT,
            "dial": stream,
            "labels": {"kubernetes.io/hostname": name, "node-role.kubernetes.io/edge": ""},
            "ready": name == NODE_NAME,
        }
        for name, address in _NODE_ADDRESSES.items()
    ]
    nodes[0]["cri"] = str(layout.cri_socket)
    return {
        "listen": f"{HOST}:{layout.apiserver_port}",
        "tls": {"cert": str(layout.pki / "stream.crt"), "key": str(layout.pki / "stream.key")},
        "clientCA": str(layout.pki / "ca.crt"),
        "kubelet": {
            "cert": str(layout.pki / "apiserver-client.crt"),
            "key": str(layout.pki / "apiserver-client.key"),
        },
        "nodes": nodes,
        "pods": [_pod("ghost", nodeName=OFFLINE_NODE), _pod("unscheduled")],
        "tokens": {
            METRICS_TOKEN: {
                "user": "system:serviceaccount:kube-system:metrics-server",
                "allowed": ["nodes/metrics"],
            }
        },
        "metricsToken": METRICS_TOKEN,
    }


def _pod(name: str, **spec: str) -> dict[str, Any]:
    containers = [{"name": name, "image": "lab.local/busybox:1"}]
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**spec, "containers": containers},
    }


def _yaml(content: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(content, sort_keys=False)
    return text
