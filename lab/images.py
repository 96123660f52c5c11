"""The lab's two images, built here from Debian's ``busybox-static``: no registry is used."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

from lab.programs import run

BUSYBOX = "/bin/busybox"
PAUSE_IMAGE, BUSYBOX_IMAGE = "lab.local/pause:1", "lab.local/busybox:1"
TALKER = Path(__file__).with_name("talker.sh")  # becomes /bin/talker in the busybox image

_Tree = dict[str, bytes | str | None]  # path: a file's content, a link's target, a directory


def image_archive() -> bytes:
    """Build the pause and busybox images: an OCI image layout, packed as a tar.

    Same busybox, same bytes.
    """
    pause: _Tree = {"bin": None, "bin/busybox": Path(BUSYBOX).read_bytes()}
    full: _Tree = pause | dict.fromkeys(("etc", "root", "tmp", "www"))
    full |= {f"bin/{name}": "busybox" for name in run(BUSYBOX, "--list").split()} | pause
    full["bin/talker"] = TALKER.read_bytes()
    full["etc/passwd"] = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
    full["etc/group"] = b"root:x:0:\nnogroup:x:65534:\n"
    full["www/index.html"] = b"hello from the lab\n"

    layout = _Layout()
    layout.add_image(PAUSE_IMAGE, pause, Entrypoint=["/bin/busybox", "sleep", "infinity"])
    layout.add_image(BUSYBOX_IMAGE, full, Cmd=["sh"])
    return layout.pack()


class _Layout:
    """An OCI image layout that is being filled."""

    def __init__(self) -> None:
        arch = {"aarch64": "arm64"}.get(os.uname().machine, "amd64")
        self._target = {"architecture": arch, "os": "linux"}
        self._tree: _Tree = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
        self._manifests: list[dict[str, Any]] = []

    def add_image(self, name: str, tree: _Tree, **process: list[str]) -> None:
        """Add an image of one layer, which holds the tree."""
        layer = self._add_blob("layer.v1.tar", _tar(tree))
        config = {
            **self._target,
            "config": process | {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self._add_blob("config.v1+json", json.dumps(config).encode()),
            "layers": [layer],
        }
        entry = self._add_blob("manifest.v1+json", json.dumps(manifest).encode())
        notes = {"io.containerd.image.name": name}
        self._manifests.append(entry | {"annotations": notes, "platform": self._target})

    def pack(self) -> bytes:
        """Return the layout as a tar."""
        index = {"schemaVersion": 2, "manifests": self._manifests}
        return _tar(self._tree | {"index.json": json.dumps(index).encode()})

    def _add_blob(self, kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        self._tree[f"blobs/sha256/{digest}"] = content
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _tar(tree: _Tree) -> bytes:
    """Pack a tree reproducibly: same tree, same bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in tree.items():
            info = tarfile.TarInfo(path)
            info.mode = 0o1777 if path == "tmp" else 0o755
            data = content if isinstance(content, bytes) else b""
            info.size = len(data)
            if not isinstance(content, bytes):
                info.type = tarfile.DIRTYPE if content is None else tarfile.SYMTYPE
                info.linkname = content or ""
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()
