"""
The door to Ray: the only package that imports it.

Actors here are doorways of a few lines around objects of the flows; each is given a `build`
function (from `cos_ray.bootstrap`) that puts such an object together inside the actor's process.
"""
