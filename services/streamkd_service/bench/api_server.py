"""The served side of `streamkd bench api`: the service's own API, Controller and Ray session, with played workers.

    python -m streamkd_service.bench.api_server CONFIG.yaml WORKERS EVENTS_PER_S

Prints one line of JSON when it answers: its address, and the ids of the processes whose cost is the server's. Ends with
its standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from streamkd.config import load_config
from streamkd.store import open_repository
from streamkd_service.api.app import create_app
from streamkd_service.logs import set_up_logs
from streamkd_service.runtime.session import start_session
from streamkd_service.runtime.settled import settle
from streamkd_service.service import base_url, listen, metrics_of

if TYPE_CHECKING:
    import socket

    from streamkd.config import Config

_READY_S = 60.0


async def _serve(config: Config, listener: socket.socket, workers: int, events_per_s: float) -> None:
    session = await asyncio.to_thread(start_session, config.workers.ray_address)
    from streamkd_service.bench.api_feeder import start_feeder  # noqa: PLC0415 - imports Ray, after its environment is set
    from streamkd_service.runtime.handles import ControllerHandle, start_controller  # noqa: PLC0415
    from streamkd_service.runtime.slots import worker_ids  # noqa: PLC0415

    try:
        actor = start_controller(config, worker_ids(workers), session)
        controller = ControllerHandle(actor)
        await controller.call("system", timeout_s=_READY_S)
        cameras = [camera.id for camera in config.cameras]
        feeder = start_feeder(session.namespace, cameras, workers, events_per_s)
        running = feeder.run.remote()
        repository = open_repository(config.store.url.get_secret_value(), read_only=True)
        app = create_app(controller, repository, config, metrics_of(repository))
        app.add_api_route("/bench/told", _told(feeder, actor), include_in_schema=False)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, server_header=False))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.02)
        settle()  # as the service does
        print(json.dumps({"url": base_url(listener)}), flush=True)  # noqa: T201
        await asyncio.to_thread(sys.stdin.read)
        app.state.streams.close()
        server.should_exit = True
        await serving
        await feeder.stop.remote()
        await running
        repository.close()
    finally:
        session.stop()


def _told(feeder: Any, controller: Any) -> Any:
    async def told() -> dict[str, Any]:
        found: dict[str, Any] = await feeder.told.remote()
        pids = {"api": os.getpid(), "controller": await controller.pid.remote(), "workers": await feeder.pid.remote()}
        return found | {"pids": pids}

    return told


def main() -> None:
    """Serve until standard input ends."""
    path, workers, events_per_s = sys.argv[1:]
    config = load_config(Path(path))
    set_up_logs(config.log)  # to standard error: whoever started this reads one line of standard output only
    with listen(config.api.host, config.api.port) as listener:
        asyncio.run(_serve(config, listener, int(workers), float(events_per_s)))


if __name__ == "__main__":
    main()
