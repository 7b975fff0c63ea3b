"""Figures of Headrace, each a ratio to a ceiling that the same run measured on the same machine.

    make bench                                 all scenarios, full size, beside the peers
    make bench ARGS="S1 S2 --quick"            some of them, small and few: a look, not a result
    make bench ARGS="S6 --peers s3fs,rclone"   beside some of the peers; beside none with an empty text
    python -m bench list                       what there is

A *scenario* is a file in `bench/scenarios/`: it prepares a place, lets systems and ceilings take turns, and gives
*figures*. A figure keeps every value that was measured; what is judged is the median, or the worst value where a
bound must never be broken. Runs of a pair follow each other and change places from pair to pair, so that what a busy
neighbour takes is taken from both.

"Cold" is a new mount, an empty cache and a dropped page cache. The server's files are read once afterwards, for it
stands for a remote one, and what the machine's host took back is claimed again (see `machine.claim_memory`).
"""
