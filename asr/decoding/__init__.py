"""From frame-wise log-probabilities to text, word times and confidences."""
