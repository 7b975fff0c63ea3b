"""The agent of the control plane, inside the node: learns what should be, brings it about with the engine, and tells how far it is.

`Membership` is all that the node knows of it; what speaks HTTP is imported once the node is enrolled.
"""
