"""The microservice chassis: server lifecycle, interceptors, workers and caches.

It knows nothing of segmentation and imports no service.
"""
