"""An HTTP server that speaks OpenAI's transcription API."""
