"""The peers of ``benchmarks/peers.py``: one module each, beside the workload that they all run."""
