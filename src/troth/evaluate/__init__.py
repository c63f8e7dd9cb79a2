"""How good and how truthful a model is: held-out questions, bits per byte, which expert works on what."""
