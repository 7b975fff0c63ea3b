"""The acceleration service under measurement: replicas as processes, their books filled, nodes that are real and nodes that are only said."""
