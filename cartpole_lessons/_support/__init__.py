"""What the rest of the package stands on: checks, errors, files, Ctrl-C, seeds, threads. It knows nothing of CartPole."""
