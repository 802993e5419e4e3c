"""A slow second opinion on the market slice.

Every function here answers one question about one instant by walking plain Python lists of dicts from the
start, straight from the sentences of the market specification. Nothing is imported from the project and
nothing here is used by it: the kernels are compared with these answers in `tests/laws`.

Shapes used throughout
    trade   dict: ts_event_ns, sequence, ordinal, tick, size, aggressor (+1, -1, 0); front contract only
    record  dict: ts_event_ns, sequence, ordinal, action, side, flags, tick, size, bids, asks, where bids and
            asks are ten (tick or None, size) pairs, best first: one mbp-10 record of the front contract
    point   dict: observation_id, asof_ns, anchor_ns, level_id, level_kind_name, level_tick, direction, stage
Lists are in the total order (ts_event_ns, sequence, ordinal) of one session. NULL is None.
"""
