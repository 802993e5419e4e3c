"""A trading bot's events, ledger, fills and balances, and the market they happened in, with a truth that is known."""
