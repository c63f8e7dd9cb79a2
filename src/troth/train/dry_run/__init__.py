"""What a step of training takes, found out by running it without numbers: one rank of any world, on any machine."""
