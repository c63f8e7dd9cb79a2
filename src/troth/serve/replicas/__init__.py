"""One model in several processes under Ray Serve: a front that takes requests, and replicas that answer them.

HAProxy (Ray's high-throughput ingress) -> front -> replica: the front sends conversations with the same beginning to
the same replica, whose prefix cache knows it, and tells a client when its replica has died. Needs `troth[scale]`.
"""
