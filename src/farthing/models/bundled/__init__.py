"""The model that comes with Farthing: weights, tokenizer, chat template and card. No code is here."""
