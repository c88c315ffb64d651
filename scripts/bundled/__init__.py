"""The parts of scripts/train_bundled.py: documents, their generators, the tokenizer, training and the model card."""
