"""The microservices: generator, refiner and orchestrator, on one shared chassis."""
