"""SPY option prints: who started them, and what they are worth (spec market 5.1 and 7.4, first three bullets)."""

CANCELLED = (7, 8, 10, 11)


def with_aggressors(prints: list[dict]) -> list[dict]:
    """§5.1: the standing prints of one session, each with `aggressor` and `aggressor_method`.

    The vendor's word first; then the quote that stood beside the print; then the tick test of Lee and Ready per
    option: above the previous different price a buyer, below it a seller, 0 until a first change. Cancelled prints
    (3.2) never were and move no state. `prints`: (ts_event_ns, ordinal) order, shape of `option_worlds`.
    """
    last_price: dict = {}
    last_sign: dict = {}
    rows = []
    for print_ in prints:
        if print_["correction"] in CANCELLED:
            continue
        symbol, price = print_["option_symbol"], print_["price"]
        if symbol in last_price and price != last_price[symbol]:
            last_sign[symbol] = 1 if price > last_price[symbol] else -1
        last_price[symbol] = price
        if print_["stated_aggressor"] != 0:
            aggressor, method = print_["stated_aggressor"], "vendor"
        elif print_["opt_ask"] is not None and price >= print_["opt_ask"]:
            aggressor, method = 1, "quote"
        elif print_["opt_bid"] is not None and price <= print_["opt_bid"]:
            aggressor, method = -1, "quote"
        elif symbol in last_sign:
            aggressor, method = last_sign[symbol], "tick"
        else:
            aggressor, method = 0, "none"
        rows.append({**print_, "aggressor": aggressor, "aggressor_method": method})
    return rows
