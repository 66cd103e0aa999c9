"""The recurrent encoder and the CTC model around it."""
