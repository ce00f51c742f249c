"""
The doors in: gRPC and HTTP, as Ray Serve hosts them.

Here belong the methods that clients call, what they read from a request's metadata, and the
translation of replies into status codes. Free of Ray: `cos_ray.cluster` puts it on Serve.
"""
