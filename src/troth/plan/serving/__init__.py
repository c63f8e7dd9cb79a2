"""What a fleet that serves takes: steps by roofline, replicas, traffic, queues, regions."""
