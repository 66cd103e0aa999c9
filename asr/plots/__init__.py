"""Pictures of trainings and recordings."""
