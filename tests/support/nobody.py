"""A user without privileges."""

NOBODY = 65534
# A user of its own, who may find the way to this repository wherever it lies, and nothing else.
AS_NOBODY = [
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search", "--",
]  # fmt: skip
