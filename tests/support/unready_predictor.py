"""The real model server with a model that is never ready: ``python -m tests.support.unready_predictor``, arguments."""

from __future__ import annotations

import sys

_ARGUMENTS = sys.argv[1:]
del sys.argv[1:]  # kserve would read them when it is imported

from sluice_serving import predictor, server  # noqa: E402


class UnreadyModel(server.SluiceModel):
    """Loaded, and then never healthy: a server whose models never were does not start."""

    async def healthy(self) -> bool:
        """What kserve asks before it lets a request in."""
        return False


if __name__ == "__main__":
    vars(server)["SluiceModel"] = UnreadyModel
    sys.exit(predictor.main(_ARGUMENTS))
