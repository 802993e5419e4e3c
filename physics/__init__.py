"""Pure kernels over Arrow and NumPy columns of one (contract, session) in order: no I/O, no dbt, no DuckDB.

`order` guards the total order, `units` holds ticks and durations, `book` turns book records into the tape of
changes and the states, `touches` finds touches of levels, `tape` and `barrier` measure observation points,
`outcomes` labels them. Import the module you need; this package imports nothing by itself.
"""
