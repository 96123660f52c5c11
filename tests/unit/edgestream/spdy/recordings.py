"""What real ends of a port-forward have said."""

KUBECTL = bytes.fromhex(
    "80030001 0000003d 00000001 00000000 0000"
    "78f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45a024cc6461c0c0c0c0590489c44c50e26634"
    "00000000ffff"
    "00000001 01000000"
    "80030001 00000018 00000003 00000000 0000 c2aa15540a2512d209000000ffff"
    "00000003 00000012 474554202f20485454502f312e300d0a0d0a"
    "80030003 00000008 00000003 00000005"
    "80030007 00000008 00000000 00000000"
)
"""kubectl 1.33: two streams, a request, a reset behind the answer's end, and the end."""

KUBECTL_HEADERS = (
    {"streamtype": "error", "port": "80", "requestid": "0"},
    {"streamtype": "data", "port": "80", "requestid": "0"},
)

CONTAINERD_REPLIES = bytes.fromhex(
    "80030002 00000014 00000003 78f9e3c6a7c2626060600000 0000ffff"
    "80030002 0000000c 00000001 026100000000ffff"
)
"""containerd 1.6.20: two streams are accepted, the second one first."""
