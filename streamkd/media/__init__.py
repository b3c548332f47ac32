"""Everything that touches PyAV: sources, sampling, conversion, clips."""
