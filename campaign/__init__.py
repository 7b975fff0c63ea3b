"""Bad days at full length: what `make test` tries for seconds, for as long as it takes to be believed.

Each module of `campaign.trials` is one trial. It has a `TITLE` and `run(plan: Plan) -> list[Figure]`, prints how it gets
on, and is as long as `plan.share` says: 1.0 is the trial whose results are committed, the suite runs a few hundredths of
it. Everything in a trial that is left to chance comes from `plan.seed`. Trials use the helpers of `tests/support`.
"""
