"""Pages by publishers of different care, and the key to what they state rightly and wrongly."""
