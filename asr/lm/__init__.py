"""Language models: what words are likely to follow one another."""
