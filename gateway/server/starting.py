"""The start of a gateway: its directories, addresses and shared memory, made from the configuration; then it is supervised."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack

from gateway.config.checks import state_is_durable
from gateway.config.load import Loaded
from gateway.server.channel import write_configuration
from gateway.server.children import Admin, Place, Resources
from gateway.server.directory import DirectoryError, RunDirectory, make_state_directory
from gateway.server.facts import facts_of
from gateway.server.forked import EXIT_CONFIG
from gateway.server.handing_over import hand_over
from gateway.server.listeners import BindError, cpu_count, open_listening, reserve
from gateway.server.preload import preload
from gateway.server.signals import hold_signals
from gateway.server.slots import Slots, shared_file
from gateway.server.supervisor import Supervisor
from gateway.smtp.connections import open_file


def run(
    loaded: Loaded, *, admin: Admin | None = None, announce: Callable[[Place], None] = lambda _: None, hands_over: bool = False
) -> int:
    """Run the gateway until it is told to end; the exit status. 2: it cannot start, and one line says why.

    `announce` is called once, when the first worker accepts. Nothing may have imported prometheus_client before. `hands_over`: this
    process is the command `mailgateway run`, and may begin anew as a supervisor that has loaded nothing else.
    """
    with ExitStack() as undo:
        try:
            resources = _resources(loaded, undo, has_admin=admin is not None)
        except (BindError, DirectoryError) as error:
            print(f"mailgateway: {error}", file=sys.stderr)  # noqa: T201 - to the person who starts the gateway
            return EXIT_CONFIG
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(resources.run.metrics)
        supervisor = Supervisor(resources, admin=admin, announce=announce)
        if len(resources.slots) > 1:
            preload(loaded.config)
        elif hands_over:
            hold_signals()
            supervisor.start()
            hand_over(resources, supervisor.running())
        return supervisor.run()


def _resources(loaded: Loaded, undo: ExitStack, *, has_admin: bool) -> Resources:
    """What the gateway holds. BindError, DirectoryError."""
    config, facts = loaded.config, facts_of(loaded)
    state = make_state_directory(loaded.state_directory)
    resources = Resources(
        facts=facts,
        configuration=write_configuration(loaded),
        slots=Slots(config.server.workers or cpu_count(), facts.routes, file=shared_file()),
        state=state,
        state_warning=state_is_durable(state, config.server.state)[1],
        run=RunDirectory(state),
    )
    undo.callback(resources.close)
    resources.seats = open_file() if len(resources.slots) > 1 else None  # a worker that is alone counts by itself
    resources.reserved = reserve(config.listener)
    if has_admin and config.admin.bind:
        resources.admin = open_listening(config.admin.bind, "[admin]")
    if any(entry.address.startswith("inbox:") for route in config.route for entry in route.entries):
        resources.inbox = open_listening("127.0.0.1:0", "development next hop")
    return resources
