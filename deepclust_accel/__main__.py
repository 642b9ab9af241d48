"""``python -m deepclust_accel`` is the command line."""

from deepclust_accel.cli import main

if __name__ == "__main__":
    main()
