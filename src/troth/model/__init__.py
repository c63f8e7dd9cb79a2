"""The network: decoder, attention, experts, rotary positions, tokenizer and the folder formats it leaves in."""
