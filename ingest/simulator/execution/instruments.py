"""What is traded. Prices are whole ticks, quantities whole steps; both are multiples of 1e-8 units."""

from dataclasses import dataclass

from ingest.simulator.execution.wire import UNIT


@dataclass(frozen=True)
class Instrument:
    """``tick`` and ``step`` in 1e-8 units; ``trade_size`` is the median quantity of a print, base units."""

    symbol: str
    base_asset: str
    tick: int
    step: int
    first_price: float
    trade_size: float
    quote_asset: str = "USDC"

    @property
    def notional_unit(self) -> int:
        """1e-8 quote units of one tick times one step."""
        return self.tick * self.step // UNIT

    def notional(self, ticks: int, steps: int) -> int:
        return ticks * steps * self.notional_unit

    def price(self, ticks: int) -> int:
        return ticks * self.tick

    def quantity(self, steps: int) -> int:
        return steps * self.step

    def ticks(self, price: float) -> int:
        return max(1, round(price * UNIT / self.tick))


INSTRUMENTS = {
    i.symbol: i
    for i in (
        Instrument("BTCUSDC", "BTC", 1_000_000, 1_000, 96_500.0, 0.02),
        Instrument("ETHUSDC", "ETH", 1_000_000, 10_000, 3_700.0, 0.4),
        Instrument("SOLUSDC", "SOL", 1_000_000, 100_000, 237.0, 6.0),
        Instrument("BNBUSDC", "BNB", 1_000_000, 100_000, 652.0, 2.0),
        Instrument("CANARYUSDC", "CANARY", 1_000_000, 1_000, 2_500.0, 0.4),
    )
}
FEE_SYMBOL = "BNBUSDC"
CANARY_SYMBOL, CANARY_CLIENT = "CANARYUSDC", 999
TRADABLE = tuple(s for s in INSTRUMENTS if s not in (FEE_SYMBOL, CANARY_SYMBOL))
