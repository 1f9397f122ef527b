//! A hospital's node: data, policy, budget, training.
