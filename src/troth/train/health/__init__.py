"""Health of a run: slow machines before it starts; slow, hanging and differing ranks, and spikes, while it goes on."""
