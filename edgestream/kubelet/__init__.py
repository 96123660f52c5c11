"""The kubelet service: answers the API server's requests to this node, and listens nowhere.

A request comes as an ``Exchange`` to a ``KubeletHandler``, by way of ``serve.answer``, which turns
errors into answers. There are two handlers:

* ``CriBackend`` routes to one small module per path (``router``, then ``container_logs``,
  ``remote_command``, ``port_forward``, ``single_calls``), which ask the runtime
  (``edgestream.cri``), relay its streaming server (``runtime_stream``) or connect to pods
  themselves (``pod_network``, ``spdy_forwarding``, ``websocket_forwarding``), and to those of the
  node (``health``, ``pods``, ``configz``, ``node_logs``, and by way of ``edgestream.stats``
  ``summary`` and ``metrics``);
* ``KubeletBackend`` puts the same request to a kubelet on this host.

Both reach their servers by ``backend_connection`` and pass answers on by ``relay``.
"""
