"""What a run or a fleet takes: time, memory, failures, cost. Arithmetic in NumPy; imports no torch."""
