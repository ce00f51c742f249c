"""`python -m cos_ray` is `cos-ray`."""

from cos_ray.cli import main

if __name__ == "__main__":
    main()
