"""Seats of connections against a model that only counts: whatever comes and goes, nobody too many and nobody turned away too soon."""

from __future__ import annotations

import os
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.models import LimitsConfig
from gateway.smtp.connections import Connections, Full, Seat, open_file

MOVES = st.lists(st.one_of(st.none(), st.integers(1, 4), st.integers(-8, -1)), max_size=60)
"""A connection of a network, or of none that is counted; a negative number: one that is there leaves."""


@given(MOVES, st.integers(1, 9), st.integers(0, 4))
def test_the_model_agrees(moves: list[int | None], most: int, of_network: int) -> None:
    file = open_file()
    try:
        connections = Connections(LimitsConfig(connections=most, network_connections=of_network), file=file)
        there: list[tuple[int | None, Seat]] = []
        for move in moves:
            if move is not None and move < 0:
                if there:
                    connections.leave(there.pop(move % len(there))[1])
                continue
            networks = Counter(network for network, _ in there)
            seat = connections.take(move)
            if len(there) >= most:
                assert seat is Full.ALL
            elif move is not None and of_network and networks[move] >= of_network:
                assert seat is Full.NETWORK
            else:
                assert isinstance(seat, Seat)
                assert seat.of_all not in {other.of_all for _, other in there}
                there.append((move, seat))
            assert connections.count == len(there)
    finally:
        os.close(file)
