"""A request's pod, as the runtime has it and as the cloud tells of it."""

from edgestream.answers import KubeletAnswer
from edgestream.cri.client import CriClient
from edgestream.cri.lookup import RuntimePod, find_pod
from edgestream.kubelet.router import Parameters
from streamkit.wire.exchange import RequestHead
from streamkit.wire.pod_facts import facts_of


async def pod_of(client: CriClient, request: RequestHead, parameters: Parameters) -> RuntimePod:
    """The pod that the path names. Raises what ``CriClient`` raises."""
    facts = facts_of(request)
    return await find_pod(client, parameters["namespace"], parameters["pod"], facts)


async def existing_pod(
    client: CriClient, request: RequestHead, parameters: Parameters
) -> RuntimePod:
    """The same; raises a KubeletAnswer if there is no such pod."""
    pod = await pod_of(client, request, parameters)
    if not pod.is_known:
        raise KubeletAnswer(404, "pod does not exist")
    return pod
