"""The orchestrator: the public SegmentationService in front of a generator and a refiner."""
