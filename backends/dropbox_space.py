"""How full an account is."""

from collections.abc import Mapping

from mountfs.backends.dropbox_client import DropboxClient
from mountfs.backends.dropbox_options import parse_options
from mountfs.storage.events import Space, SpaceSource


def open_space(url: str, options: Mapping[str, object]) -> SpaceSource:
    """Return what tells how full the account is; nothing is sent."""
    return DropboxSpace(DropboxClient(parse_options(options)))


class DropboxSpace:
    """Asks for the space of one account."""

    def __init__(self, client: DropboxClient) -> None:
        self._client = client

    async def space(self) -> Space | None:
        """Send one get_space_usage; of a team what the team has is what counts."""
        usage = await self._client.call(lambda api: api.users_get_space_usage())
        allocation = usage.allocation
        if allocation.is_individual():
            return Space(int(allocation.get_individual().allocated), int(usage.used))
        if allocation.is_team():
            team = allocation.get_team()
            own = int(team.user_within_team_space_allocated)
            if own:  # 0 is no limit of one's own
                return Space(own, int(usage.used))
            return Space(int(team.allocated), int(team.used))
        return None

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()
