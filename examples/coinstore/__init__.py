"""A coin store: the coins of a block chain, their state and its history, in twelve column families."""
