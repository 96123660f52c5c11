"""What an admin address answers."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import ClientSession, ClientTimeout

from tests.support.cloud import Cloud

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Admin:
    """A client of one admin address."""

    port: int

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text."""
        async with (
            ClientSession(timeout=ClientTimeout(10)) as session,
            session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
        ):
            return answer.status, await answer.text()

    async def metrics(self) -> dict[str, float]:
        """The samples of the page, by ``name{label="value"}``."""
        status, text = await self.get("/metrics")
        assert status == 200
        return {
            f"{name}{{{labels}}}" if labels else name: float(value)
            for name, labels, value in _SAMPLE.findall(text)
        }

    async def until(self, path: str, *texts: str) -> None:
        """Ask until the answer has all these texts in it."""
        await self._until(path, lambda found: all(text in found for text in texts))

    async def until_ok(self, path: str, *, deadline: float = 20) -> None:
        """Ask until the answer has nothing to tell."""
        await self._until(path, lambda found: found == "ok", deadline=deadline)

    async def _until(
        self, path: str, is_wanted: Callable[[str], bool], *, deadline: float = 20
    ) -> None:
        text = ""
        try:
            async with asyncio.timeout(deadline):
                while not is_wanted(text):
                    text = (await self.get(path))[1]
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"the last answer was: {text}") from None


def admin_of(cloud: Cloud) -> Admin:
    """The client of a cloud's."""
    return Admin(cloud.service.admin.port)
