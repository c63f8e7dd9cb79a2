"""xAI's own SDK at the door: its gRPC calls put to the routes that HTTP clients ask. Needs `troth[xai]`."""
