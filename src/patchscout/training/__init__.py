"""The training: environment, samplers, policy gradient, learner and the loop over them."""
