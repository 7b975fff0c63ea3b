"""What checks a connection to a bucket, wherever it runs: in the control plane, or on a node of a region that alone reaches the endpoint.

It knows neither of them: a layer below both (tests/control/test_layers.py).
"""
