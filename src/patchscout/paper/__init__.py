"""The method of arXiv 2511.20270 as published, in one room; imports the parts both methods share.

Departures from the authors' implementation:
1. The policy learns by a policy gradient, with a value head as baseline. In theirs no gradient
   reaches the policy.
2. Profiles are made of a few images a step and kept in a buffer of 80, not of every training image
   in every step.
3. R_pred is measured on squares about four labeled defects with the newest profile, not on the
   batch that the predictor is trained on.
4. Nothing that was trained on is scored.
"""
