"""Accuracy against latency: EGFormer's default beside what one would use instead, on data that lie at hand.

runs.py says what is compared, on which data and for how long; scoring.py what is scored; execution.py trains, scores
and resumes; late_fusion.py is the one rival that is no EGFormer; speed.py times the models; plot.py draws.
docs/frontier.md has what came out.
"""
