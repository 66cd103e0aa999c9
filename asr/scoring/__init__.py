"""Word and character error rates with what is needed to trust and understand them."""
