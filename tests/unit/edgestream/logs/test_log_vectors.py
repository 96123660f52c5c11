"""The golden vectors of log reading."""

from pathlib import Path
from typing import Any

import pytest

from edgestream.answers import KubeletAnswer
from edgestream.logs.timestamp import parse_stamp
from tests.support.log_vectors import VECTORS, named
from tests.unit.edgestream.logs.support import read_log, write


def options_of(vector: dict[str, Any]) -> dict[str, Any]:
    options = dict(vector["options"])
    if since := options.pop("since", None):
        stamp = parse_stamp(since.encode())
        assert stamp is not None
        options["since_ns"] = stamp.ns
    return options


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("vector", VECTORS, ids=named)
async def test_vector(vector: dict[str, Any], follow: bool, log: Path) -> None:
    write(log, vector["file"].encode("latin-1"))
    options = options_of(vector)
    if "error" in vector:
        with pytest.raises(KubeletAnswer) as caught:
            await read_log(log, follow=follow, **options)
        assert caught.value.status == 400
        assert caught.value.body == vector["error"]
        assert caught.value.headers == ()
    else:
        expected = vector["output"]
        if follow:  # an unterminated record is never shown in part
            expected = expected.removesuffix("fo")
        output = await read_log(log, follow=follow, **options)
        assert output == expected.encode("latin-1")
