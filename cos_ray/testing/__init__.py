"""
Stand-ins for the world, and judges of what happened in it: for our tests, and for yours.

Here belong the fakes of `cos_ray.ports`, held to the same contract tests as the real things, and
what checks a history. They know the domain and the ports only, and no fake is cleverer than what
it stands for.
"""
