"""Nodes: machines of a region that hold bytes and mount them for tasks; how they join, what they report, how they leave."""
