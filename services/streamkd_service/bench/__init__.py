"""`streamkd bench`: what it costs, measured; a module a benchmark, `report` writes what was seen."""
