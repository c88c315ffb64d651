"""The pages on the article that Farthing began with: what they say as data, and the words of each language."""
